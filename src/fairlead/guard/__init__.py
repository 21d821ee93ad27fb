"""Pure functions on text: mask personal data. Knows no HTTP and no storage."""

from fairlead.guard.masking import KINDS, Masker, mask_json, mask_text

__all__ = ["KINDS", "Masker", "mask_json", "mask_text"]
