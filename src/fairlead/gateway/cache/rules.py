"""How answers may be kept: the process's copy of ``cache:`` in fairlead.yaml."""

from __future__ import annotations

import msgspec


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Answering likely paraphrases. ``max_error`` is the share of wrong answers that must not be passed, ``verify`` the
    share of such answers that are checked all the same, ``evidence_s`` how long what was learnt counts.
    """

    max_error: float = 0.01
    confidence: float = 0.95
    verify: float = 0.02
    evidence_s: float = 7 * 86_400.0


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """``sampled``: also keep answers drawn at a temperature above 0; ``bytes_``: the most that is kept in memory, and
    on disk; ``verified`` is None where paraphrases are not answered.
    """

    enabled: bool = True
    ttl_s: float = 3600.0
    sampled: bool = False
    bytes_: int = 64 * 1024 * 1024
    verified: Verified | None = None


LARGEST = 1024 * 1024
"""A larger answer is not kept."""
