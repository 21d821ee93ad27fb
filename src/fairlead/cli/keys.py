"""``fairlead keys``: create, list, rotate and revoke the keys that open the API and the console."""

from __future__ import annotations

import datetime
from typing import Annotated, cast

import msgspec
import typer

from fairlead.cli.output import JsonFlag, advise, err, out, print_json, print_table, same, with_settings
from fairlead.cli.times import moment, parse_duration
from fairlead.errors import UsageError
from fairlead.records import Key, Limits, Priority, now_us
from fairlead.settings import Settings
from fairlead.spec import load
from fairlead.store import Store

SCOPES = ("inference", "admin", "operator")
OPERATIONS = ("chat", "completion", "embedding")
PRIORITIES = ("interactive", "standard", "batch")
LONGEST_TENANT = 200


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("rotate")(rotate)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


@with_settings("project", "data_dir")
def create(
    *,
    settings: Settings,
    name: Annotated[str, typer.Argument(help="What the key is for, for people.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What it opens: inference (the API), admin (the console), operator (its inbox). Repeat for several."
        ),
    ] = ["inference"],  # noqa: B006  typer reads the default; nobody changes it
    tenant: Annotated[str, typer.Option(help="Whose traffic it carries.")] = "default",
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 12h or 90d. Without it the key stays.")] = None,
    models: Annotated[
        list[str], typer.Option(help="Models it opens, comma-separated or repeated. Without it all.")
    ] = [],  # noqa: B006
    operations: Annotated[
        list[str], typer.Option(help="Operations it opens: chat, completion, embedding. Without it all.")
    ] = [],  # noqa: B006
    priority: Annotated[str, typer.Option(help="Who goes first: interactive, standard or batch.")] = "standard",
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute, read and written.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    usd_per_day: Annotated[float | None, typer.Option(min=0, max=1e9, help="Budget of a day (UTC).")] = None,
    usd_per_month: Annotated[float | None, typer.Option(min=0, max=1e9, help="Budget of a month (UTC).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a key. Its secret is shown this once and never stored."""
    for what, given, known in (
        ("scope", scope, SCOPES),
        ("operation", _split(operations), OPERATIONS),
        ("priority", [priority], PRIORITIES),
    ):
        if unknown := sorted(set(given) - set(known)):
            raise UsageError(detail=f"There is no {what} {unknown[0]!r}. Expected one of: {', '.join(known)}.")
    if not name.strip():
        raise UsageError(detail="A key needs a name, so that people know what it is for: fairlead keys create my-app")
    if not tenant.strip() or not tenant.isprintable() or len(tenant) > LONGEST_TENANT:
        expected = f"a name of up to {LONGEST_TENANT} printable characters, as in --tenant acme"
        raise UsageError(detail=f"The tenant {tenant[:20]!r} is none. Expected {expected}.")
    until = now_us() + parse_duration(expires) if expires else None
    limits = Limits(
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        concurrent=concurrent,
        nanos_per_day=_nanos(usd_per_day),
        nanos_per_month=_nanos(usd_per_month),
    )
    opened = _split(models)
    _refuse_impossible(settings, opened, limits)
    with Store.open(settings.data_path) as store:
        key, secret = store.keys.create(
            name,
            tuple(scope),
            tenant=tenant,
            expires=until,
            models=opened,
            operations=_split(operations),
            priority=cast(Priority, priority),
            limits=limits,
        )
    _tell(settings, key, secret, as_json=as_json)


def _split(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def _nanos(usd: float | None) -> int | None:
    return None if usd is None else round(usd * 1e9)


def _refuse_impossible(settings: Settings, models: tuple[str, ...], limits: Limits) -> None:
    """A model that is not there, and a budget for one whose price is unknown. Only where there is a use case."""
    if not settings.spec_path.exists():
        return
    usecase = load(settings.spec_path)
    known = {usecase.name, "embed", *(variant.id for variant in usecase.variants)}
    if unknown := [name for name in models if name not in known]:
        raise UsageError(detail=f"There is no model {unknown[0]!r}. Expected one of: {', '.join(sorted(known))}.")
    if limits.nanos_per_day is None and limits.nanos_per_month is None:
        return
    for variant in usecase.variants:
        if not variant.priced and (not models or variant.id in models):
            line = "price: {input_usd_per_million: 0.40, output_usd_per_million: 1.60}"
            raise UsageError(
                detail=f"A budget cannot be kept for the variant {variant.id!r}: its price is unknown. Add {line} with "
                f"the provider's figures to it, or leave it out with --models."
            )


def _tell(settings: Settings, key: Key, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**_shown(key), "secret": secret})
        return
    out.print(secret, markup=False)
    advise(
        f"Key {key.prefix}… for {key.name!r} ({', '.join(key.scopes)}). Keep the line above: it is not stored and "
        f"cannot be shown again.\nUse it as: Authorization: Bearer {key.prefix}…   "
        f"Undo: fairlead keys revoke {key.prefix}{same(settings)}",
        to=err,
    )


@with_settings("project", "data_dir")
def rotate(
    *,
    settings: Settings,
    key: Annotated[str, typer.Argument(help="The key's prefix or id, as `fairlead keys list` shows it.")],
    overlap: Annotated[str, typer.Option(help="How long the old key still works, such as 1h or 7d.")] = "24h",
    as_json: JsonFlag = False,
) -> None:
    """Replace a key by one that opens the same; both work during the overlap, within one budget."""
    with Store.open(settings.data_path) as store:
        old, new, secret = store.keys.rotate(key, parse_duration(overlap))
    _tell(settings, new, secret, as_json=as_json)
    err.print(f"The old key {old.prefix}… works until {moment(old.expires or 0)} UTC.", markup=False)


@with_settings("project", "data_dir")
def list_keys(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """List keys, revoked ones too; never their secrets."""
    with Store.open(settings.data_path) as store:
        keys = store.keys.list()
    if as_json:
        print_json([_shown(key) for key in keys])
        return
    if not keys:
        advise(f"No keys yet. Create one: fairlead keys create my-app{same(settings)}")
        return
    print_table(
        ["prefix", "name", "scopes", "tenant", "opens", "limits", "created", "state"],
        [
            [
                key.prefix, key.name, " ".join(key.scopes), key.tenant,
                " ".join((*key.models, *key.operations)) or "all", limits_in_words(key.limits) or "none",
                moment(key.created), _state(key),
            ]
            for key in keys
        ],
    )  # fmt: skip


def limits_in_words(limits: Limits) -> str:
    """``60 rpm, 5 USD a day``; empty when there are none."""
    rates = {
        "rpm": limits.requests_per_minute,
        "tpm": limits.tokens_per_minute,
        "at once": limits.concurrent,
    }
    sums = {"USD a day": limits.nanos_per_day, "USD a month": limits.nanos_per_month}
    words = [f"{value} {unit}" for unit, value in rates.items() if value is not None]
    return ", ".join([*words, *(f"{value / 1e9:g} {unit}" for unit, value in sums.items() if value is not None)])


@with_settings("project", "data_dir")
def revoke(
    *,
    settings: Settings,
    key: Annotated[str, typer.Argument(help="The key's prefix or id, as `fairlead keys list` shows it.")],
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key. A running server refuses it within a second."""
    with Store.open(settings.data_path) as store:
        known = {each.id for each in store.keys.list() if each.revoked is not None}
        revoked = store.keys.revoke(key)
    if as_json:
        print_json(_shown(revoked))
    else:
        said = "Was revoked already:" if revoked.id in known else "Revoked"
        out.print(f"{said} {revoked.prefix}… ({revoked.name}).", markup=False)


def _state(key: Key) -> str:
    if key.revoked is not None:
        return f"revoked {moment(key.revoked)}"
    if key.expires is None:
        return "active"
    return f"{'expired' if key.expires <= now_us() else 'until'} {moment(key.expires)}"


def _shown(key: Key) -> dict[str, object]:
    def iso(time: int | None) -> str | None:
        return None if time is None else datetime.datetime.fromtimestamp(time / 1e6, datetime.UTC).isoformat()

    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "scopes": list(key.scopes),
        "tenant": key.tenant,
        "created": iso(key.created),
        "revoked": iso(key.revoked),
        "expires": iso(key.expires),
        "origin": key.origin,
        "models": list(key.models),
        "operations": list(key.operations),
        "priority": key.priority,
        "limits": msgspec.to_builtins(key.limits),
    }
