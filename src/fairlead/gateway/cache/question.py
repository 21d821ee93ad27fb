"""What is asked, as a key: an HMAC over all that may change the answer or who may see it. Pure.

Each part is written in one way (JSON with sorted keys), its length before it, so that no two questions can be written
alike. What was said is one HMAC, all around it another (worked out once for many questions), and the key one of both.
What cannot change an answer is left out: whether it streams, and the name of the user, who counts as the pseudonym the
gateway made of it. A request that names its user is personal: its answers serve this user alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from fairlead.gateway.exchange import Exchange
from fairlead.gateway.route import Route

PARTS: Final = ("tenant", "scope", "user", "release", "parameters", "tools", "documents", "messages")
_TOOL_NAMES: Final = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
_TOOLS: Final = frozenset(_TOOL_NAMES)
_NO_TOOLS: Final = orjson.dumps([None] * len(_TOOL_NAMES))
_NOTHING: Final = orjson.dumps(None)
_SAID: Final = ("messages", "prompt", "input")
_UNASKED: Final = ("model", "stream", "stream_options", "user", "safety_identifier")
_ELSEWHERE: Final = frozenset((*_TOOLS, *_SAID, *_UNASKED, "documents"))
_SHORT: Final = 12
_BLOCK: Final = 64
_OFTEN: Final = 2_000
"""Bytes of all parts but what was said, up to which what was worked out of them is remembered."""
LONGEST_TEXT: Final = 1_000
"""Characters of a last message up to which another wording of it is looked for."""


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """All of a question but what was said: one HMAC of it (32 bytes), and a short one of each part."""

    whole: bytes
    digests: Mapping[str, bytes]


class Question(msgspec.Struct, kw_only=True):
    """``frame`` is the key of all but the last message, whose words are ``text``; both empty where it has no words.

    ``said`` is the HMAC of the messages, or of the prompt or input.
    """

    key: bytes
    around: Around
    said: bytes
    subject: str
    frame: bytes = b""
    text: str = ""

    def digests(self) -> dict[str, bytes]:
        """A short HMAC of each part."""
        return {**self.around.digests, PARTS[-1]: self.said[:_SHORT]}


def ask(x: Exchange, route: Route, secret: bytes, *, framed: bool) -> Question:
    """The question of an exchange whose caller and route are known. ``framed``: likeness will be looked at."""
    principal = x.principal
    tenant, scopes = (principal.tenant, principal.scopes) if principal is not None else ("", frozenset[str]())
    own = principal.subject if principal is not None else ""
    subject = x.subject if x.subject != own else ""
    return question_of(
        x.body, operation=x.operation, tenant=tenant, scopes=scopes, subject=subject, route=route, secret=secret,
        framed=framed,
    )  # fmt: skip


def question_of(
    body: Mapping[str, Any],
    *,
    operation: str,
    tenant: str,
    scopes: frozenset[str],
    subject: str,
    route: Route,
    secret: bytes,
    framed: bool = False,
) -> Question:
    """As ``ask``, of a checked body (decoded JSON). ``subject`` is empty for a request that names no user."""
    parameters = orjson.dumps(_parameters(body), option=orjson.OPT_SORT_KEYS)
    tools = _NO_TOOLS if _TOOLS.isdisjoint(body) else _sorted([body.get(name) for name in _TOOL_NAMES])
    documents = _sorted(body["documents"]) if body.get("documents") is not None else _NOTHING
    often = len(parameters) + len(tools) + len(documents) + len(subject) <= _OFTEN
    around = (_known_around if often else _new_around)(
        secret, tenant, scopes, subject, route.name, route.release, route.variant, route.model, operation,
        parameters, tools, documents,
    )  # fmt: skip
    mac = mac_of(secret)
    said = mac(b"said\0" + _sorted([body[name] for name in _SAID if body.get(name) is not None]))
    question = Question(key=mac(b"key\0" + around.whole + said), around=around, said=said, subject=subject)
    if framed and operation == "chat":
        messages = body["messages"]
        last = messages[-1]
        if last["role"] == "user" and isinstance(text := last.get("content"), str) and len(text) <= LONGEST_TEXT:
            before = mac(b"before\0" + _sorted([*messages[:-1], {**last, "content": ""}]))
            question.frame, question.text = mac(b"frame\0" + around.whole + before), text
    return question


def _sorted(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Everything else, known or not; null is absent, and 1.0 is 1."""
    return {
        name: int(value) if type(value) is float and value.is_integer() else value
        for name, value in body.items()
        if name not in _ELSEWHERE and value is not None
    }


def _new_around(
    secret: bytes, tenant: str, scopes: frozenset[str], subject: str, name: str, release: str, variant: str, model: str,
    operation: str, parameters: bytes, tools: bytes, documents: bytes,
) -> Around:  # fmt: skip
    parts = (
        tenant.encode("utf-8", "surrogatepass"),
        orjson.dumps(sorted(scopes)),
        subject.encode("utf-8", "surrogatepass"),
        orjson.dumps([name, release, variant, model, operation]),
        parameters,
        tools,
        documents,
    )
    mac = mac_of(secret)
    return Around(
        whole=mac(b"around\0" + b"".join([len(part).to_bytes(8, "big") + part for part in parts])),
        digests={
            name: mac(name.encode() + b"\0" + part)[:_SHORT] for name, part in zip(PARTS[:-1], parts, strict=True)
        },
    )


_known_around = lru_cache(maxsize=1_024)(_new_around)
"""The same for many questions: a caller's, to one model, with one set of parameters and tools."""


@lru_cache(maxsize=8)
def mac_of(secret: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA-256 (RFC 2104) under ``secret``: what ``hmac.digest`` gives, at half its price for a short message.

    The two hashes begin with the key, so they are begun once and copied.
    """
    key = hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret
    padded = key.ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def mac(message: bytes) -> bytes:
        within, around = inner.copy(), outer.copy()
        within.update(message)
        around.update(within.digest())
        return around.digest()

    return mac


def why_not(x: Exchange, route: Route, *, sampled: bool) -> str:
    """Why the answer to this may neither be kept nor come from what is kept; empty where it may."""
    return why_not_kept(x.body, operation=x.operation, route=route, sampled=sampled)


def why_not_kept(body: Mapping[str, Any], *, operation: str, route: Route, sampled: bool) -> str:
    """As ``why_not``, of a checked body."""
    if route.recorded_as is not None:
        return "assistant"
    if operation == "embedding":
        return ""
    if not (sampled or route.deterministic or _temperature(body, route) == 0):
        return "sampled"
    if body.get("store") or body.get("web_search_options") is not None or body.get("background"):
        return "effects"
    if any(tool.get("type") != "function" for tool in body.get("tools") or ()):
        return "effects"
    for message in body.get("messages") or ():
        if message["role"] in ("tool", "function") or message.get("tool_calls"):
            return "tool results"
    return ""


def _temperature(body: Mapping[str, Any], route: Route) -> Any:
    asked = body.get("temperature")
    return route.defaults.get("temperature") if asked is None else asked
