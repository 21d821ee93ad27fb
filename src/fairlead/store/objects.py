"""Objects: files under the hash of their content, so that they cannot change without it showing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fairlead.errors import ObjectDamaged, RecordUnknown, StoreFull

_HASH = re.compile(r"[0-9a-f]{64}")


class Objects:
    """A directory of objects. Any number of processes may use it at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, content: bytes | Path) -> str:
        """Store bytes, or the content of a file, and return their SHA-256 in hex. Raises StoreFull."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._explained():
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=".put-")
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as target:
                    if isinstance(content, Path):
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, target, 1 << 20)
                    else:
                        target.write(content)
                    target.flush()
                    os.fsync(target.fileno())
                digest = _digest(temporary)
                path = self._path(digest)
                path.parent.mkdir(mode=0o700, exist_ok=True)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return digest

    def get(self, digest: str) -> Path:
        """Where the object lies, after checking it. Raises RecordUnknown, or ObjectDamaged when it was changed."""
        path = self._path(digest)
        if not path.is_file():
            raise RecordUnknown(kind="object", id=digest)
        if _digest(path) != digest:
            raise ObjectDamaged(path=path)
        return path

    def delete(self, digest: str) -> bool:
        """Remove the object; False when there was none."""
        path = self._path(digest)
        found = path.is_file()
        path.unlink(missing_ok=True)
        return found

    def list(self) -> list[str]:
        """The hashes of all objects, sorted."""
        return sorted(path.parent.name + path.name for path in self._directory.glob("[0-9a-f][0-9a-f]/*"))

    def _path(self, digest: str) -> Path:
        if not _HASH.fullmatch(digest):
            raise RecordUnknown(kind="object", id=digest)
        return self._directory / digest[:2] / digest[2:]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFull(path=self._directory, detail=str(error)) from error
            raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
