"""From bytes to a checked request body. Nothing here recurses, so no body can exhaust the stack."""

from __future__ import annotations

from typing import Any

import orjson

from fairlead.errors import BodyInvalid, BodyTooDeep, ContentTypeWrong, RequestInvalid
from fairlead.gateway.fields import BODIES, shorten
from fairlead.providers.base import Operation


def decode(raw: bytes, *, max_depth: int) -> dict[str, Any]:
    """The JSON object in ``raw``. Of a key that is there twice the last one counts, here and for the upstream.

    Raises BodyInvalid (also for NaN, lone surrogates, raw control characters) and BodyTooDeep.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):
            raise BodyTooDeep(limit=max_depth) from None
        detail = "it is empty" if not raw.strip() else f"{error.msg} at character {error.pos + 1}"
        raise BodyInvalid(detail=detail) from None
    # Fewer brackets than levels: it cannot be deeper, and counting is some hundred times cheaper than walking.
    if raw.count(b"[") + raw.count(b"{") > max_depth and is_deeper(body, max_depth):
        raise BodyTooDeep(limit=max_depth)
    if not isinstance(body, dict):
        raise BodyInvalid(detail=f"it is {shorten(body)}")
    return body


def is_deeper(value: Any, limit: int) -> bool:
    """Whether ``value`` nests more than ``limit`` levels of objects and lists."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            part
            for item in level
            for part in (item.values() if isinstance(item, dict) else item)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def check(body: dict[str, Any], operation: Operation) -> None:
    """Raise RequestInvalid, with the field in ``param``, unless the fields we interpret have sensible values."""
    BODIES[operation](body, "")
    if operation == "chat" and body.get("tool_choice") == "required" and not body.get("tools"):
        raise RequestInvalid(problem="tool_choice is 'required' but tools is empty.", param="tool_choice")


def check_content_type(content_type: bytes, encoding: bytes) -> None:
    """Raise ContentTypeWrong unless the body is declared (or left undeclared) as plain JSON."""
    if content_type and content_type.split(b";", 1)[0].strip().lower() != b"application/json":
        raise ContentTypeWrong(found=repr(content_type[:80].decode("latin-1")))
    if encoding and encoding.strip().lower() != b"identity":
        raise ContentTypeWrong(found="content-encoding " + repr(encoding[:40].decode("latin-1")))
