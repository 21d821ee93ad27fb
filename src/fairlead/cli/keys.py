"""``fairlead keys``: create, list and revoke the keys that open the API and the console."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from fairlead.cli.output import JsonFlag, err, out, print_json, print_table, with_settings
from fairlead.cli.times import moment, parse_duration
from fairlead.errors import UsageError
from fairlead.records import Key, now_us
from fairlead.settings import Settings
from fairlead.store import Store

SCOPES = ("inference", "admin", "operator")


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
    group.command("create")(create)
    group.command("list")(list_keys)
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
    as_json: JsonFlag = False,
) -> None:
    """Create a key. Its secret is shown this once and never stored."""
    unknown = sorted(set(scope) - set(SCOPES))
    if unknown:
        raise UsageError(detail=f"There is no scope {unknown[0]!r}. Expected one of: {', '.join(SCOPES)}.")
    if not name.strip():
        raise UsageError(detail="A key needs a name, so that people know what it is for: fairlead keys create my-app")
    until = now_us() + parse_duration(expires) if expires else None
    with Store.open(settings.data_path) as store:
        key, secret = store.keys.create(name, tuple(scope), tenant=tenant, expires=until)
    if as_json:
        print_json({**_shown(key), "secret": secret})
        return
    out.print(secret, markup=False)
    err.print(
        f"Key {key.prefix}… for {name!r} ({', '.join(scope)}). Keep the line above: it is not stored and cannot be "
        f"shown again.\nUse it as: Authorization: Bearer {key.prefix}…   Undo: fairlead keys revoke {key.prefix}",
        markup=False,
    )


@with_settings("project", "data_dir")
def list_keys(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """List keys, revoked ones too; never their secrets."""
    with Store.open(settings.data_path) as store:
        keys = store.keys.list()
    if as_json:
        print_json([_shown(key) for key in keys])
        return
    if not keys:
        out.print("No keys yet. Create one: fairlead keys create my-app")
        return
    print_table(
        ["prefix", "name", "scopes", "tenant", "created", "state"],
        [[key.prefix, key.name, " ".join(key.scopes), key.tenant, moment(key.created), _state(key)] for key in keys],
    )


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
    }
