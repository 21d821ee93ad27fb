"""Files as pages: which endings are read, and by what. A reader is imported when a file of its kind is met."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fairlead.assistant.pages.blocks import MAX_PASSAGE_CHARS, Page, PageInvalid, clean, cut

READERS: Mapping[str, str] = MappingProxyType(
    {".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".csv": "csv", ".pdf": "pdf"}
)
"""Ending, in lower case, to the module of this package that reads it."""
MAX_TEXT_BYTES, MAX_PDF_BYTES = 2_000_000, 50_000_000

__all__ = ["MAX_PASSAGE_CHARS", "READERS", "Page", "PageInvalid", "clean", "cut", "read_page"]


def read_page(file: Path, data: bytes) -> Page:
    """The page in ``data``, the content of ``file``, whose ending says the format. Raises PageInvalid."""
    module = READERS.get(file.suffix.lower())
    if module is None:
        raise PageInvalid(f"is not a page; expected a file that ends in {', '.join(READERS)}.")
    limit = MAX_PDF_BYTES if module == "pdf" else MAX_TEXT_BYTES
    if len(data) > limit:
        raise PageInvalid(f"has {len(data):,} bytes; a page may have {limit:,}. Split it.")
    reader = importlib.import_module(f"fairlead.assistant.pages.{module}")
    page: Page = reader.read(data if module == "pdf" else _decode(data))
    return page


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PageInvalid(f"byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
    if "\x00" in text:
        raise PageInvalid("contains NUL bytes, so it is not a text file.")
    return text
