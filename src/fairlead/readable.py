"""Text that somebody else wrote, made fit to be shown beside our own: in a terminal, on a page, in a log.

It may hold characters that do something instead of showing something: move the cursor, turn the direction of what
follows, or hide. What is stored, exported and sent stays as it was written.
"""

from __future__ import annotations

import re
import unicodedata

UNREADABLE = "(no readable text)"
"""Stands for a text of which nothing is seen."""
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters by their category, of which nothing is seen."""
_DISTURBING = re.compile(
    # Control characters but for tab and end of line (escape sequences of terminals begin with one), and halves of
    # characters that are no text at all;
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
    # what turns the direction of what follows (Unicode Technical Report 36, Trojan Source);
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    # what has no width: one can hide words in it, and two names that look alike are not the same.
    "\u00ad\u034f\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    # Joiners stay between letters of scripts that need them, and within an emoji.
    "|(?<![^\x00-\x7f\u200b-\u200f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200b-\u200f])"
)


def readable(text: str) -> str:
    """The text without the characters that disturb what stands around it."""
    return _DISTURBING.sub("", text)


def escaped(text: str) -> str:
    """A JSON document with the same characters as escapes: it means what it did and can be looked at."""
    return _DISTURBING.sub(lambda found: "".join(map(_escape, found[0])), text)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def legible(text: str) -> bool:
    """Whether anything of it is seen."""
    return any(unicodedata.category(each)[0] not in "CZ" and each not in _BLANK for each in text)
