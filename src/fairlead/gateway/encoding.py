"""Embeddings as lists of numbers or as base64 of little-endian float32, whichever the client asked for."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any


def fit_encoding(answer: dict[str, Any], wanted: str | None) -> bool:
    """Bring every embedding in ``answer`` to the wanted form; True when something changed. Other shapes stay."""
    changed = False
    data = answer.get("data")
    for item in data if isinstance(data, list) else ():
        vector = item.get("embedding") if isinstance(item, dict) else None
        try:
            if wanted == "base64" and isinstance(vector, list):
                packed = struct.pack(f"<{len(vector)}f", *vector)
                item["embedding"] = base64.b64encode(packed).decode("ascii")
            elif wanted != "base64" and isinstance(vector, str):
                packed = base64.b64decode(vector, validate=True)
                item["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
            else:
                continue
        except (struct.error, binascii.Error):
            continue
        changed = True
    return changed
