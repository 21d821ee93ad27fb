"""Route: the name a client sends as ``model``, and who answers it. Knows nothing of how it is called."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.errors import ModelUnknown, OperationUnsupported
from fairlead.providers.base import Operation, Upstream
from fairlead.records import Operation as RecordedOperation

WORDS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "chat completions", "completion": "completions", "embedding": "embeddings"}
)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One name and the model behind it.

    ``model`` is the upstream's own name for it; ``price`` nano-dollars a token (in, out), None when unknown;
    ``defaults`` fill fields a request leaves out; ``recorded_as`` overrides the operation in the record, for a route
    that is answered by the assistant; ``deterministic`` says that the same request always has the same answer;
    ``salt`` is the field of a request that keeps tenants' prefixes apart in the engine's own cache.
    """

    name: str
    upstream: Upstream
    model: str
    variant: str = ""
    release: str = ""
    operations: frozenset[Operation] = frozenset({"chat", "completion"})
    price: tuple[float, float] | None = None
    owned_by: str = "fairlead"
    defaults: Mapping[str, Any] = MappingProxyType({})
    recorded_as: RecordedOperation | None = None
    deterministic: bool = False
    salt: str = ""
    retries: int = 0
    rests: bool = True
    fallback: tuple[str, ...] = ()
    weights: Mapping[str, float] = MappingProxyType({})
    hedge: bool = False
    line: str = ""


class Identity(msgspec.Struct, frozen=True):
    """Whose gateway this is: the use case's name and the hash of the definition in force."""

    usecase: str
    spec_hash: str


def find_route(routes: Mapping[str, Route], name: str, operation: Operation) -> Route:
    """The route called ``name``. Raises ModelUnknown with the nearest names, OperationUnsupported."""
    route = routes.get(name)
    if route is None:
        names = sorted(routes, key=lambda each: routes[each].recorded_as is None)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        near = list(dict.fromkeys([*close, *names]))[:3]
        raise ModelUnknown(model=repr(name[:80]), nearest=", ".join(near) or "none is served", param="model")
    if operation not in route.operations:
        able = [other.name for other in routes.values() if operation in other.operations]
        raise OperationUnsupported(
            model=name, operation=WORDS[operation], able=", ".join(able) or "none is served", param="model"
        )
    return route
