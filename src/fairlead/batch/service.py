"""What can be done with files and batches, the same over HTTP and from the command line. Knows neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from fairlead.batch.lines import ENDPOINTS
from fairlead.batch.runner import ENDED, KIND, file_id
from fairlead.errors import BatchSettled, BatchUnknown, FileTooLarge, FileUnknown, RecordUnknown, RequestInvalid
from fairlead.gateway import Identity, Principal
from fairlead.records import Batch, StoredFile, new_id, now_us
from fairlead.store import Store

WINDOW: Final = "24h"
_SECOND = 1_000_000
KEEP_S: Final = 30 * 86_400
"""How long files of batches stay unless asked otherwise."""
SHORTEST_KEEP_S, LONGEST_KEEP_S = 3600, 30 * 86_400
MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512


class Batches:
    """Files and batches of one store. ``most_held_bytes`` is what the files of one tenant may take together."""

    def __init__(self, store: Store, identity: Identity, *, most_held_bytes: int, window_s: float = 86_400.0) -> None:
        self._store = store
        self._identity = identity
        self._most_held = most_held_bytes
        self._window_s = window_s

    # --- files --------------------------------------------------------------------------------------------------

    def room(self, principal: Principal) -> int:
        """Bytes that the tenant's files may still take."""
        return max(0, self._most_held - self._store.files.held_bytes(principal.tenant))

    def keep_file(self, principal: Principal, written: Path, name: str, keep_s: int = KEEP_S) -> StoredFile:
        """Take in an input for batches that was written by ``Files.writing``. Raises RequestInvalid, FileTooLarge."""
        size = written.stat().st_size
        if not size:
            raise RequestInvalid(problem="The file is empty; expected one JSON object a line.", param="file")
        if size > self.room(principal):
            raise FileTooLarge(limit=self.room(principal))
        _check_keep(keep_s, "expires_after[seconds]")
        now = now_us()
        file = StoredFile(
            id=file_id(), time=now, tenant=principal.tenant, subject=principal.subject, release="",
            usecase=self._identity.usecase, spec_hash=self._identity.spec_hash, name=Path(name).name[:255] or "input",
            purpose="batch", bytes=size, expires=now + keep_s * _SECOND,
        )  # fmt: skip
        return self._store.files.keep(written, file)

    def file(self, principal: Principal, identifier: str) -> StoredFile:
        """A file of the caller's tenant. Raises FileUnknown."""
        file = self._store.files.get(identifier, principal.tenant)
        if file is None:
            raise FileUnknown(id=identifier[:80], param="id")
        return file

    def content(self, principal: Principal, identifier: str) -> tuple[StoredFile, Path]:
        """A file and where it lies. Raises FileUnknown."""
        file = self.file(principal, identifier)
        try:
            return file, self._store.files.path(file)
        except RecordUnknown as error:
            raise FileUnknown(id=identifier[:80], param="id") from error

    # --- batches ------------------------------------------------------------------------------------------------

    def create(
        self,
        principal: Principal,
        *,
        input_file_id: Any,
        endpoint: Any,
        completion_window: Any,
        metadata: Any = None,
        keep_s: int = KEEP_S,
    ) -> Batch:
        """Queue a batch. What its lines hold is looked at later, by the job. Raises RequestInvalid, FileUnknown."""
        if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
            raise RequestInvalid(problem=f"endpoint is not one of {', '.join(ENDPOINTS)}.", param="endpoint")
        if completion_window != WINDOW:
            raise RequestInvalid(problem=f"completion_window must be {WINDOW!r}.", param="completion_window")
        if not isinstance(input_file_id, str):
            raise RequestInvalid(problem="input_file_id must be a text.", param="input_file_id")
        pairs = _checked(metadata)
        _check_keep(keep_s, "output_expires_after.seconds")
        file, path = self.content(principal, input_file_id)
        if file.purpose != "batch":
            raise RequestInvalid(problem="The file's purpose must be 'batch'.", param="input_file_id")
        now = now_us()
        batch = Batch(
            id="batch_" + new_id().replace("-", ""), time=now, tenant=principal.tenant, subject=principal.subject,
            usecase=self._identity.usecase, spec_hash=self._identity.spec_hash, release="", key=principal.key_id,
            scopes=tuple(sorted(principal.scopes)), endpoint=endpoint, window=WINDOW, input_file=file.id,
            times={"validating": now}, expires=now + round(self._window_s * _SECOND), keep=keep_s * _SECOND,
            metadata=pairs,
        )  # fmt: skip
        try:
            self._store.batches.create(batch, path)
        except FileNotFoundError as error:  # deleted between two of our steps
            raise FileUnknown(id=file.id, param="input_file_id") from error
        self._queue(batch)
        return batch

    def batch(self, principal: Principal, identifier: str) -> Batch:
        """A batch of the caller's tenant. Raises BatchUnknown."""
        batch = self._store.batches.get(identifier, principal.tenant)
        if batch is None:
            raise BatchUnknown(id=identifier[:80], param="id")
        return batch

    def cancel(self, principal: Principal, identifier: str) -> Batch:
        """Ask for its end; what is answered stays. Raises BatchUnknown, BatchSettled."""
        batch = self.batch(principal, identifier)
        if batch.status in ENDED and batch.status != "cancelled":
            raise BatchSettled(id=batch.id, status=batch.status, wanted="cancelled")
        return self._store.batches.cancel(batch.id) or batch

    def resume(self, principal: Principal, identifier: str) -> tuple[Batch, int]:
        """Queue what an ended batch has no good answer for as a new batch; returns it and how many requests it has.

        Raises BatchUnknown, BatchSettled (it has not ended), FileUnknown (its input is gone), RequestInvalid (nothing
        is left).
        """
        batch = self.batch(principal, identifier)
        if batch.status not in ENDED or batch.status == "failed":
            raise BatchSettled(id=batch.id, status=batch.status, wanted="continued")
        _, source = self.content(principal, batch.input_file)
        answered: set[str] = set()
        if batch.output_file:
            with self.content(principal, batch.output_file)[1].open("rb") as output:
                answered = {json.loads(line)["custom_id"] for line in output}
        count = 0
        with self._store.files.writing() as (target, path), source.open("rb") as lines:
            for raw in lines:
                line = raw.removeprefix(b"\xef\xbb\xbf").strip()
                if line and json.loads(line)["custom_id"] not in answered:
                    target.write(line + b"\n")
                    count += 1
            target.flush()
            if not count:
                raise RequestInvalid(problem=f"Every request of {batch.id} has its answer.", param="id")
            file = self.keep_file(principal, path, f"{batch.id}_rest.jsonl")
        metadata = {**dict(list(batch.metadata.items())[: MOST_PAIRS - 1]), "continues": batch.id}
        fresh = self.create(
            principal, input_file_id=file.id, endpoint=batch.endpoint, completion_window=WINDOW, metadata=metadata,
            keep_s=batch.keep // _SECOND,
        )  # fmt: skip
        return fresh, count

    def tend(self) -> None:
        """Delete what has expired, and queue batches whose job was never queued because its process died."""
        self._store.jobs.forget(ended_before=now_us() - KEEP_S * _SECOND)
        self._store.files.sweep()
        for batch in self._store.batches.unfinished():
            self._queue(batch)

    def _queue(self, batch: Batch) -> None:
        # Never given up: until its window ends it may always be tried again, and then its end is written.
        self._store.jobs.add(KIND, {"batch": batch.id}, tenant=batch.tenant, key=batch.id, most_failures=0)


def _check_keep(seconds: int, name: str) -> None:
    if not SHORTEST_KEEP_S <= seconds <= LONGEST_KEEP_S:
        problem = f"{name} is {seconds}; expected {SHORTEST_KEEP_S} to {LONGEST_KEEP_S}."
        raise RequestInvalid(problem=problem, param=name)


def _checked(metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    fits = isinstance(metadata, dict) and len(metadata) <= MOST_PAIRS
    if not fits or not all(
        isinstance(value, str) and len(key) <= LONGEST_KEY and len(value) <= LONGEST_VALUE
        for key, value in metadata.items()
    ):
        problem = (
            f"metadata must be at most {MOST_PAIRS} pairs of texts, keys up to {LONGEST_KEY} characters, values up to "
            f"{LONGEST_VALUE}."
        )
        raise RequestInvalid(problem=problem, param="metadata")
    return dict(metadata)
