"""What decides an answer, and the hash that names it. Where a release is stored and who is live is not known here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fairlead.spec.canonical import digest

_CHUNK = 1 << 20


def content(
    *,
    model: str,
    prompt: Path | None,
    weights: Path | None,
    adapter: Path | None,
    settings: dict[str, Any],
    knowledge: str,
    tools: str,
    routing: str,
    engine: str,
) -> dict[str, Any]:
    """A release's content as JSON data. Files enter by their content, so renaming one changes nothing.

    Raises OSError when ``prompt``, ``weights`` or ``adapter`` cannot be read.
    """
    return {
        "model": model,
        "prompt": file_hash(prompt) if prompt else "",
        "weights": fingerprint(weights) if weights else "",
        **({"adapter": fingerprint(adapter)} if adapter else {}),
        **settings,
        "knowledge": knowledge,
        "tools": tools,
        "routing": routing,
        "engine": engine,
    }


def release_hash(content: dict[str, Any]) -> str:
    """SHA-256 (hex) of a release's content."""
    return digest(content)


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) of a file of weights, or over those of a folder by their names."""
    if not path.is_dir():
        return weights_fingerprint(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return digest({str(each.relative_to(path)): weights_fingerprint(each) for each in files})


def weights_fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the size, first and last MiB: weights of many gigabytes must not delay a start."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_CHUNK)
        file.seek(max(0, size - _CHUNK))
        return hashlib.sha256(b"%d:" % size + head + file.read(_CHUNK)).hexdigest()
