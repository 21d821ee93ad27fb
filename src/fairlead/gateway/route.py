"""Route: the name a client sends as ``model``, and who answers it. Knows nothing of how it is called."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.errors import ModelUnknown, OperationUnsupported
from fairlead.providers.base import Operation, Upstream
from fairlead.records import Operation as RecordedOperation

WORDS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "chat completions", "completion": "completions", "embedding": "embeddings"}
)


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """How a route chooses between two others: what ``gain`` says a question gains by the big one, against a threshold.

    ``small`` and ``big`` name routes. One that is ``shut`` sends all to the big one; ``doubt`` says to people what has
    changed since it was learnt.
    """

    small: str
    big: str
    gain: Callable[[str], float]
    threshold: float
    shut: bool = False
    doubt: str = ""

    def choose(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """(who answers, why) by the customer's last message. What is no text alone goes to the big one."""
        if self.shut:
            return self.big, "the router is out of date"
        question = question_in(body)
        if not question:
            return self.big, "no text to go by"
        gain = self.gain(question)
        needed = gain > self.threshold
        return self.big if needed else self.small, f"gain {gain:.3g} {'>' if needed else '<='} {self.threshold:.3g}"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One name and the model behind it.

    ``model`` is the upstream's own name for it; ``price`` nano-dollars a token (in, out), None when unknown;
    ``defaults`` fill fields a request leaves out; ``recorded_as`` overrides the operation in the record, for a route
    that is answered by the assistant; ``deterministic`` says that the same request always has the same answer;
    ``salt`` is the field of a request that keeps tenants' prefixes apart in the engine's own cache; ``repairs`` says
    that its upstream asks once more for an answer that does not fit its schema. A route with a
    ``split`` only chooses: who it chose is asked, priced and kept as if it had been named; ``price`` is the most then.
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
    repairs: bool = False
    line: str = ""
    split: Split | None = None


class Identity(msgspec.Struct, frozen=True):
    """Whose gateway this is: the use case's name and the hash of the definition in force."""

    usecase: str
    spec_hash: str


def question_in(body: Mapping[str, Any]) -> str:
    """The last message of the user, or the prompt; empty where it is not text alone."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return prompt
    asked = [each for each in body.get("messages") or () if isinstance(each, dict) and each.get("role") == "user"]
    content = asked[-1].get("content") if asked else ""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "\n".join(map(str, texts)) if len(texts) == len(content) else ""
    return content if isinstance(content, str) else ""


def chosen_for(routes: Mapping[str, Route], route: Route, body: Mapping[str, Any]) -> tuple[Route, str]:
    """(who is asked for ``route``, why): the route itself, or the one of its two that it chooses."""
    if route.split is None:
        return route, ""
    name, why = route.split.choose(body)
    return routes[name], why


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
