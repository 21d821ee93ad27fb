"""Upload: a multipart form with one file, written to disk as it arrives. Memory holds one piece of it at a time.

The form's bytes are parsed by python-multipart; here is what is done with them. Knows nothing of what the file holds.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fairlead.errors import FileTooLarge, RequestInvalid

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_FIELD: Final = 4096
MOST_FIELDS: Final = 16
LONGEST_HEADERS: Final = 8192
_OVERHEAD: Final = 65_536
"""Bytes a form may have besides its file."""
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Form:
    """What arrived: the file's name (None: there was no file) and the other fields."""

    def __init__(self) -> None:
        self.filename: str | None = None
        self.fields: dict[str, str] = {}


class _Receiver:
    """Takes the parser's events; the file's bytes go into ``target``."""

    def __init__(self, target: BinaryIO, limit: int) -> None:
        self.form = Form()
        self.ended = False
        self._target = target
        self._limit = limit
        self._size = self._count = self._header_bytes = 0
        self._header = [bytearray(), bytearray()]
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._take_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._take_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_FIELDS:
            raise RequestInvalid(problem=f"The form has more than {MOST_FIELDS} fields.", param=None)
        self._disposition, self._value, self._is_file, self._header_bytes = b"", bytearray(), False, 0

    def _take_header(self, which: int, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > LONGEST_HEADERS:
            raise RequestInvalid(problem="A part of the form has too long headers.", param=None)
        self._header[which] += data

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = [bytearray(), bytearray()]

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file"
        if self._is_file:
            if self.form.filename is not None:
                raise RequestInvalid(problem="The form has more than one file.", param="file")
            self.form.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._size += end - start
            if self._size > self._limit:
                raise FileTooLarge(limit=self._limit)
            self._target.write(memoryview(data)[start:end])
        elif len(self._value) + end - start > LONGEST_FIELD:
            raise RequestInvalid(problem=f"A field is longer than {LONGEST_FIELD} bytes.", param=self._name[:80])
        else:
            self._value += data[start:end]

    def _end(self) -> None:
        if not self._is_file:
            self.form.fields[self._name] = self._value.decode("utf-8", "replace")

    def _finish(self) -> None:
        self.ended = True


async def receive_form(
    pieces: AsyncIterator[bytes], content_type: str, content_length: str, target: BinaryIO, limit: int
) -> Form:
    """The form in ``pieces``, its file of at most ``limit`` bytes in ``target``.

    Raises FileTooLarge (by declaration before anything is read, or by count), RequestInvalid.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        problem = f"The body is declared as {content_type[:80]!r}; expected multipart/form-data with a boundary."
        raise RequestInvalid(problem=problem, param=None)
    if _LENGTH.fullmatch(content_length.encode("latin-1")) and int(content_length) > limit + _OVERHEAD:
        raise FileTooLarge(limit=limit)
    receiver = _Receiver(target, limit)
    try:
        parser = MultipartParser(boundary, receiver.callbacks())
        async for piece in pieces:
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise RequestInvalid(problem=f"The form cannot be read: {error}.", param=None) from error
    if not receiver.ended:
        raise RequestInvalid(problem="The form ends in the middle. Send it again.", param=None)
    if receiver.form.filename is None:
        raise RequestInvalid(problem="The form has no file in its field 'file'.", param="file")
    target.flush()
    return receiver.form
