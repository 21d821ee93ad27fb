"""What a client may say about kept answers: ``Cache-Control`` of a request (RFC 9111, section 5.2.1). Pure."""

from __future__ import annotations

from typing import Final

import msgspec


class Control(msgspec.Struct, frozen=True):
    """``fresh``: nothing kept may answer; ``unkept``: nothing may be kept either; ``max_age_s``: none older may."""

    fresh: bool = False
    unkept: bool = False
    max_age_s: float | None = None


ANY: Final = Control()


def read_control(header: bytes) -> Control:
    """The directives that are about us; others, and what cannot be read, are passed over."""
    if not header:
        return ANY
    fresh = unkept = False
    max_age: float | None = None
    for part in header.decode("latin-1").lower().split(","):
        name, _, value = part.strip().partition("=")
        if name == "no-cache":
            fresh = True
        elif name == "no-store":
            fresh = unkept = True
        elif name == "max-age" and value.strip('"').isdigit():
            max_age = float(value.strip('"')[:12])
    return Control(fresh=fresh or max_age == 0, unkept=unkept, max_age_s=max_age)
