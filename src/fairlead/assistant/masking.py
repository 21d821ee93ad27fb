"""Masking what is stored, but not the shop's own addresses: "[email]" in a transcript would make an answer useless."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_CONTACT = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\+\d[\d ]{6,18}\d")


class PublicMask:
    """Masks texts with ``mask`` except for the contacts that stand in the public pages."""

    def __init__(self, mask: Callable[[str], str], pages: Iterable[str]) -> None:
        self._mask = mask
        public = {contact for page in pages for contact in _CONTACT.findall(page) if mask(contact) != contact}
        longest_first = sorted(map(re.escape, public), key=len, reverse=True)
        self._public = re.compile(rf"(?<![\w.+-])({'|'.join(longest_first)})(?![\w-])") if public else None

    def __call__(self, text: str) -> str:
        """``text`` with personal data masked."""
        if self._public is None:
            return self._mask(text)
        parts = self._public.split(text)
        return "".join(part if number % 2 else self._mask(part) for number, part in enumerate(parts))
