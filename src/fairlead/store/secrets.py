"""Random secrets that this store keeps for the program itself, such as the key behind pseudonyms. Never a user's."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fairlead.errors import StoreError

SIZE = 32


def keep(directory: Path, name: str) -> bytes:
    """The secret called ``name``, made on first use: 32 random bytes in a file only its owner can read.

    Two processes that ask at once get the same one. Raises StoreError.
    """
    path = directory / f"{name}.secret"
    try:
        if not path.exists():
            fresh = directory / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(SIZE))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # fails if another process was first; then its secret counts
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_bytes()
    except OSError as error:
        raise StoreError(
            detail=f"The secret {path} cannot be kept: {error.strerror}. Check the owner and the rights of the folder."
        ) from error
