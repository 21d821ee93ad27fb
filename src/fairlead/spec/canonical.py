"""One way to write data down, so that equal data has equal hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def encode(data: Any) -> bytes:
    """JSON with sorted keys, no spaces and no negative zero, in UTF-8. Raises ValueError for NaN and infinity."""
    text = json.dumps(_plain(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(data: Any) -> str:
    """SHA-256 of ``encode(data)``, in hex."""
    return hashlib.sha256(encode(data)).hexdigest()


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return data + 0.0 if isinstance(data, float) else data
