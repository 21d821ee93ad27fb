"""Reading the header of a GGUF file: is it one, is it whole, what does it say about itself.

Done in our process before the native loader sees the file, so that a missing, truncated or foreign file is a clear
sentence instead of a crash. The file is untrusted: every count and length is checked against the file's size before
anything is allocated, and memory stays bounded whatever the file claims. Reads no tensor data.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import msgspec

from fairlead.errors import WeightsDamaged, WeightsMissing

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
LONGEST_KEY: Final = 1024
LONGEST_KEPT: Final = 4096
"""Longer text values (a chat template, say) are skipped, only their length is kept."""
MOST_FIELDS: Final = 4096
MOST_TENSORS: Final = 100_000
MOST_TEXTS: Final = 4_000_000
"""In one array; the largest vocabularies and merge lists have some hundred thousand."""
MOST_DIMENSIONS: Final = 4

UINT32, STRING, ARRAY = 4, 8, 9
SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", UINT32: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip

BLOCKS: Final[dict[int, tuple[int, int]]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
"""ggml type -> (values in a block, bytes of a block). A type that is not here is newer than we are: its size is not
checked, the loader decides."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a GGUF file says about itself.

    ``fields`` holds scalar values and short texts; for a long text or an array, its length as an int. ``needed`` is
    the size in bytes the file must at least have, ``size`` the size it has.
    """

    version: int
    fields: dict[str, int | float | bool | str]
    tensors: int
    data_offset: int
    needed: int
    size: int

    @property
    def kind(self) -> str:
        """``model`` unless the file says otherwise, e.g. ``adapter``."""
        return str(self.fields.get("general.type", "model"))

    @property
    def architecture(self) -> str:
        """Such as ``llama``; empty when the file does not say."""
        return str(self.fields.get("general.architecture", ""))

    @property
    def context(self) -> int:
        """The longest context the model was made for, in tokens; 0 when the file does not say."""
        return int(self.fields.get(f"{self.architecture}.context_length", 0))


def read_header(path: Path, *, kind: str = "model") -> Header:
    """Read and check the header of ``path``, which must be a ``kind`` (``model`` or ``adapter``).

    Raises WeightsMissing when there is no such file, WeightsDamaged when it is not a whole GGUF file of that kind.
    """
    try:
        # A folder, a device or a pipe would block or lie about its size.
        if path.exists() and not path.is_file():
            raise WeightsDamaged(path=path, detail="it is not a regular file")
        with path.open("rb") as file:
            header = _Reader(path, file).header()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WeightsMissing(path=path) from error
    except OSError as error:
        raise WeightsDamaged(path=path, detail=f"it cannot be read ({error.strerror})") from error
    if header.kind != kind:
        raise WeightsDamaged(path=path, detail=f"it holds a GGUF {header.kind}, expected a {kind}")
    if not header.architecture:
        raise WeightsDamaged(path=path, detail="its header names no architecture (general.architecture)")
    return header


class _Reader:
    """Walks the header once. Every read is bounded by what is left of the file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._at = 0

    def header(self) -> Header:
        if self._size < 24:
            self._damaged(f"it has only {self._size} bytes")
        magic = self._take(4)
        if magic != MAGIC:
            self._damaged(f"it begins with {magic!r}, a GGUF file begins with {MAGIC!r}")
        version = self._scalar("<I")
        if version not in VERSIONS:
            self._damaged(f"it has GGUF version {version}, expected one of {VERSIONS}")
        tensors, count = self._scalar("<Q"), self._scalar("<Q")
        if count > MOST_FIELDS or tensors > MOST_TENSORS:
            self._damaged(f"its header claims {count} fields and {tensors} tensors")
        fields = dict(self._field() for _ in range(count))
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 65_536 or alignment & (alignment - 1):
            self._damaged(f"its alignment is {alignment!r}")
        end = max((self._tensor_end() for _ in range(tensors)), default=0)
        start = -(-self._at // alignment) * alignment
        needed = start + end if tensors else self._at
        if needed > self._size:
            self._damaged(f"it has {self._size:,} bytes and needs {needed:,}, so it is cut off")
        return Header(
            version=version, fields=fields, tensors=tensors, data_offset=start, needed=needed, size=self._size
        )

    def _field(self) -> tuple[str, int | float | bool | str]:
        key = self._key()
        return key, self._value(self._scalar("<I"))

    def _value(self, kind: int) -> int | float | bool | str:
        if kind in SCALARS:
            return self._scalar(SCALARS[kind])
        if kind == STRING:
            length = self._length()
            if length > LONGEST_KEPT:
                self._skip(length)
                return length
            return self._take(length).decode("utf-8", "replace")
        if kind != ARRAY:
            self._damaged(f"its header holds a value of unknown type {kind} at byte {self._at}")
        return self._skip_array()

    def _skip_array(self) -> int:
        kind, count = self._scalar("<I"), self._scalar("<Q")
        if kind in SCALARS:
            self._skip(count * struct.calcsize(SCALARS[kind]))
        elif kind != STRING:
            self._damaged(f"its header holds an array of type {kind} at byte {self._at}")
        else:
            if count * 8 > self._size - self._at:
                self._cut_off()
            if count > MOST_TEXTS:
                self._damaged(f"its header holds an array of {count} texts")
            for _ in range(count):
                self._skip(self._length())
        return count

    def _tensor_end(self) -> int:
        """Bytes from the start of the data to the end of this tensor."""
        name, rank = self._key(), self._scalar("<I")
        if rank > MOST_DIMENSIONS:
            self._damaged(f"tensor {name!r} has {rank} dimensions")
        values = 1
        for _ in range(rank):
            values *= self._scalar("<Q")
        kind, offset = self._scalar("<I"), self._scalar("<Q")
        block, size = BLOCKS.get(kind, (1, 0))
        if values % block:
            self._damaged(f"tensor {name!r} has {values} values, not a multiple of its block of {block}")
        return int(offset) + values // block * size

    def _key(self) -> str:
        length = self._length()
        if length > LONGEST_KEY:
            self._damaged(f"its header holds a name of {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _length(self) -> int:
        length = int(self._scalar("<Q"))
        if length > self._size - self._at:
            self._cut_off()
        return length

    def _scalar(self, form: str) -> int:
        value: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            self._cut_off()
        self._at += count
        return data

    def _skip(self, count: int) -> None:
        if count > self._size - self._at:
            self._cut_off()
        self._at += count
        self._file.seek(count, os.SEEK_CUR)

    def _cut_off(self) -> NoReturn:
        self._damaged(f"its header runs past the end of the file at byte {self._at:,} of {self._size:,}")

    def _damaged(self, detail: str) -> NoReturn:
        raise WeightsDamaged(path=self._path, detail=detail)
