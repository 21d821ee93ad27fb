"""Pure functions on text: mask personal data, check an answer against its sources. Knows no HTTP and no storage."""

from fairlead.guard.grounding import Claim, grounded
from fairlead.guard.masking import KINDS, Masker, mask_json, mask_text

__all__ = ["KINDS", "Claim", "Masker", "grounded", "mask_json", "mask_text"]
