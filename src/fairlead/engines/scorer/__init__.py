"""A small learned cross-encoder: how likely a sentence, list item or table row answers a question."""

from fairlead.engines.scorer.pieces import with_context
from fairlead.engines.scorer.scorer import LEAST, MOST, Opinion, Scorer, shared

__all__ = ["LEAST", "MOST", "Opinion", "Scorer", "shared", "with_context"]
