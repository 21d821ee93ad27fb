"""What a use case and its variants come to, part by part: pure functions that wiring, commands and pages ask."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fairlead import __version__, secret
from fairlead.assistant import Cache, Knowledge, Router, Tools
from fairlead.engines.gguf import read_header
from fairlead.engines.openvino import made_for_tokens
from fairlead.errors import CredentialMissing, FairleadError, RouterRefused, RoutingRefused, SecretUnreadable
from fairlead.gateway.cache import Rules, Verified
from fairlead.gateway.route import Split
from fairlead.providers.aws import Credentials
from fairlead.providers.base import Operation
from fairlead.providers.facts import facts_of
from fairlead.providers.network import Network
from fairlead.settings import Settings
from fairlead.spec import UseCase, Variant
from fairlead.spec.model import Cache as CacheRules

if TYPE_CHECKING:
    from fairlead.select.makes import Make

log = logging.getLogger(__name__)

EMBED: Final = "embed"
"""Name of the route behind /v1/embeddings, always there."""
OPENVINO: Final = "openvino:"
"""Begins the weights of a model that OpenVINO GenAI runs."""
VLLM_SERVE: Final = "vllm-serve:"
"""Begins the weights of a model that vLLM fetches and runs for us."""
EMBEDS: Final = "embeds:"
"""Begins the weights of an engine that makes embeddings with what follows."""
IN_PROCESS: Final = ("extractive", EMBED)
"""Engines that are a part of this process."""


def resident_bytes(pid: int) -> int | None:
    """Memory a process holds now; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def faults(usecase: UseCase) -> list[str]:
    """What would keep a sound definition from starting: pages, tools or weights that cannot be used, in words."""
    found = []
    loaders: list[Callable[[], object]] = [
        lambda: Knowledge.load([usecase.path(part.path) for part in usecase.knowledge]),
        lambda: Tools.of(usecase),
        lambda: router_of(usecase),
    ]
    named = (name.removeprefix(EMBEDS) for variant in usecase.variants for name in weights_of(variant))
    for weights in dict.fromkeys(named):
        if weights.startswith(OPENVINO):
            loaders.append(functools.partial(made_for_tokens, Path(weights.removeprefix(OPENVINO))))
        elif weights not in IN_PROCESS and not weights.startswith(VLLM_SERVE):
            path = packaged_weights(weights) if weights == "mini" else Path(weights)
            loaders.append(functools.partial(read_header, path))
    loaders += [
        functools.partial(read_header, adapter, kind="adapter")
        for variant in usecase.variants
        if (adapter := variant.adapter_path()) is not None and variant.target.kind != "vllm"
    ]
    loaders += [functools.partial(split_of, usecase, variant) for variant in usecase.variants if variant.target.routes]
    for load_part in loaders:
        try:
            load_part()
        except FairleadError as error:
            found.append(str(error))
    return found


def doubts(usecase: UseCase) -> list[str]:
    """What starts and should not stay as it is, in words: routers whose two have changed. Raises RouterRefused."""
    splits = {each.id: split_of(usecase, each) for each in usecase.variants if each.target.routes}
    return [f"Variant {name}: {split.doubt}" for name, split in splits.items() if split.doubt]


def split_of(usecase: UseCase, variant: Variant) -> Split:
    """How a router's variant chooses. Raises RouterRefused for a file that is none, or saves nothing for certain."""
    path, between = variant.router_path(), variant.between
    if path is None or between is None:
        raise ValueError(f"{variant.id} is no router")
    # With it comes all of statistics, and few have a router.
    from fairlead.select.routing import doubt_of, from_file, refusals, stale_since

    try:
        learnt = from_file(path.read_bytes())
    except (OSError, RoutingRefused) as error:
        detail = error.strerror or "" if isinstance(error, OSError) else str(error.details["detail"])
        raise RouterRefused(variant=variant.id, file=path.name, detail=detail) from error
    router = learnt.router
    if (router.small, router.big) != (between.small, between.big):
        named = f"`between:` names {between.small} and {between.big}"
        mend = f"fairlead route learn ... --small {between.small} --big {between.big}"
        detail = f"it was learnt for {router.small} and {router.big}, and {named}. Learn it by their ids: {mend}"
        raise RouterRefused(variant=variant.id, file=path.name, detail=detail)
    reasons = refusals(learnt.report)
    if reasons:
        raise RouterRefused(variant=variant.id, file=path.name, detail="; ".join(reasons))
    stale = stale_since(learnt, makes_of(usecase, (router.small, router.big)))
    return Split(
        small=between.small, big=between.big, gain=lambda text: float(router.gains([text])[0]),
        threshold=router.threshold, shut=stale is not None and stale.shut,
        doubt=doubt_of(learnt, stale, variant.target.path) if stale is not None else "",
    )  # fmt: skip


def makes_of(usecase: UseCase, names: Iterable[str]) -> dict[str, Make]:
    """What decides the answers of the variants of these names, and what they cost, as the use case stands. Names of no
    variant are left out.
    """
    from fairlead.select.makes import make_of_release

    found = [variant for variant in usecase.variants if variant.id in set(names)]
    return {each.id: make_of_release(make_content(each), price_of(usecase, each)) for each in found}


def make_content(variant: Variant) -> dict[str, Any]:
    """What decides a model's answers, whatever it is given to read and to call."""
    return variant.release_content(engine=engine_identity(variant))


def router_of(usecase: UseCase, cache: Cache | None = None) -> Router:
    """What guesses the intents of a use case's messages. Raises IntentsInvalid."""
    routing = usecase.routing
    return Router.load(routing, usecase.path(routing.examples) if routing is not None else None, cache)


def rules_of(wanted: CacheRules) -> Rules:
    """``cache:`` of the use case as the gateway takes it."""
    return Rules(
        enabled=wanted.enabled,
        ttl_s=wanted.ttl.value,
        sampled=wanted.sampled,
        bytes_=wanted.size_mib * 1024 * 1024,
        verified=Verified(
            max_error=wanted.paraphrases.max_error,
            confidence=wanted.paraphrases.confidence,
            verify=wanted.paraphrases.verify,
            evidence_s=wanted.paraphrases.evidence_days * 86_400,
        )
        if wanted.paraphrases is not None
        else None,
    )


def packaged_weights(name: str) -> Path:
    """The GGUF file that comes with Fairlead."""
    return Path(str(importlib.resources.files("fairlead.engines") / "weights" / f"{name}.gguf"))


def operations_of(variant: Variant) -> frozenset[Operation]:
    """What a variant can be asked for. Quoting needs a question, so it takes no bare text to go on with."""
    if variant.task == "embed" or variant.target.kind == EMBED:
        return frozenset({"embedding"})
    if variant.target.remote:
        return facts_of(variant.target.provider).operations
    return frozenset({"chat"}) if variant.target.quotes else frozenset({"chat", "completion"})


def weights_of(variant: Variant) -> tuple[str, ...]:
    """What a variant's own engines run: built-in names, a GGUF file's path, ``vllm-serve:NAME``, ``openvino:PATH``; or
    nothing. An engine of embeddings is another one than that of answers from the same file.
    """
    kind = variant.target.kind
    if variant.target.remote or variant.target.routes:
        return ()
    if kind == "cascade":
        return ("extractive", "mini")
    path = variant.weights_path()
    named = str(path) if path is not None else variant.target.name
    begin = {"vllm": VLLM_SERVE, "openvino": OPENVINO}.get(kind, "")
    return (f"{EMBEDS if variant.task == 'embed' else ''}{begin}{named}",)


def held_skills(name: str) -> frozenset[str]:
    """Skills whose objective the packaged model holds, as its card reports them; none when there is no card."""
    path = packaged_weights(name).with_suffix(".json")
    return frozenset(json.loads(path.read_text(encoding="utf-8"))["holds"]) if path.exists() else frozenset()


def network_of(variant: Variant, settings: Settings) -> Network:
    """How the server of a remote variant is reached.

    It may have a private address where the file says so, by a host that is plainly one of this network (localhost, a
    private address, a name without a dot or in .internal or .local), or the setting ``private_hosts`` does.
    """
    host = urlsplit(variant.target.base_url).hostname or ""
    declared = {name.strip().lower() for name in settings.private_hosts.split(",")}
    return Network(
        connect_s=settings.connect_timeout_s,
        first_byte_s=settings.first_byte_timeout_s,
        idle_s=settings.idle_timeout_s,
        proxy=settings.proxy,
        private=not variant.target.external or host in declared,
    )


def price_of(usecase: UseCase, variant: Variant) -> tuple[float, float] | None:
    """(input, output) in nano-dollars a token: 0 for models on this machine, None where nobody says what one costs."""
    price = usecase.price_of(variant)
    if price is not None:
        return price.nanos_per_token
    return (0.0, 0.0) if not variant.target.remote and variant.between is None else None


def credentials(variant: Variant, usecase: UseCase) -> list[str | None]:
    """The provider's keys behind ``api_key`` or ``api_keys``, None for one that is not there yet; [None] where none is
    declared.
    """
    if not variant.references:
        return [_of_aws() if variant.target.provider == "bedrock" else None]
    return [credential(variant, usecase, reference) for reference in variant.references]


def credential(variant: Variant, usecase: UseCase, reference: str) -> str | None:
    """The key behind one reference, None when it is not there yet."""
    try:
        found = secret.read(reference, usecase.base)
    except SecretUnreadable as error:
        detail = str(error.details["detail"])
        raise CredentialMissing(variant=variant.id, reference=reference, detail=detail) from error
    if not (found.isascii() and found.isprintable()):  # it becomes a header
        detail = "it holds more than a key; expected letters, digits and signs in one line"
        raise CredentialMissing(variant=variant.id, reference=reference, detail=detail)
    if not found:
        log.warning("variant %s has no key: %s is empty or not set", variant.id, reference)
    _remember(found)
    return found or None


def _remember(found: str) -> None:
    """The parts of AWS credentials are secrets each for itself; a name of a key alone is none."""
    parts = Credentials.read(found)
    for part in (parts.secret, parts.token) if parts is not None else (found,):
        secret.remember(part)


def _of_aws() -> str | None:
    """AWS credentials from where AWS's own tools look for them first, as one text."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    found = [os.environ.get(name, "") for name in names]
    whole = ":".join(filter(None, found)) if found[0] and found[1] else os.environ.get("AWS_BEARER_TOKEN_BEDROCK", "")
    _remember(whole)
    return whole or None


def router_identity(variant: Variant, releases: Mapping[str, str], *, shut: bool) -> str:
    """What identifies a router in a release: its file, whether it still decides, and the releases of its two."""
    path, between = variant.router_path(), variant.between
    if path is None or between is None:
        raise ValueError(f"{variant.id} is no router")
    file = f"{hashlib.sha256(path.read_bytes()).hexdigest()}{' shut' if shut else ''}"
    return f"{file} {releases[between.small]} {releases[between.big]}"


def engine_identity(variant: Variant) -> str:
    """What identifies built-in code or weights in a release: the hash of the weights, or Fairlead's version."""
    if variant.target.kind in ("mini", "cascade"):
        path = packaged_weights("mini")
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    return f"fairlead {__version__}" if variant.target.quotes or variant.target.kind == EMBED else ""
