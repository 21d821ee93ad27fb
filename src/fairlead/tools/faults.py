"""How a call of a tool can go wrong, by what is known of its effect."""

from __future__ import annotations


class ToolFault(Exception):
    """A call gave no result. ``sentence`` may be read by a customer."""

    def __init__(self, detail: str, sentence: str = "I could not look that up just now.") -> None:
        super().__init__(detail)
        self.sentence = sentence


class NotRun(ToolFault):
    """The tool was certainly not run."""


class Unsure(ToolFault):
    """The tool was begun, and nobody knows how far it came: it hung, died or answered what cannot be read."""
