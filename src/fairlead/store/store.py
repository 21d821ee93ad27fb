"""The store: everything Fairlead keeps, in one directory. Opens it, migrates it, recovers it, hands out its parts."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fairlead.errors import StoreBusy, StoreError, StoreFull
from fairlead.store import secrets
from fairlead.store.actions import Actions
from fairlead.store.answers import Answers
from fairlead.store.audit import Audit
from fairlead.store.batches import Batches
from fairlead.store.calibrations import Calibrations
from fairlead.store.conversations import Conversations, FeedbackLog
from fairlead.store.counters import Counters
from fairlead.store.database import Database
from fairlead.store.datasets import Datasets, Verdicts
from fairlead.store.derived import Derived
from fairlead.store.files import Files
from fairlead.store.handoffs import Handoffs
from fairlead.store.jobs import Jobs
from fairlead.store.keys import Keys
from fairlead.store.ledger import Ledger
from fairlead.store.news import News
from fairlead.store.objects import Objects
from fairlead.store.outcomes import Outcomes
from fairlead.store.presence import Presence
from fairlead.store.releases import Releases, UseCases
from fairlead.store.runs import Runs
from fairlead.store.traces import Traces

DATABASE = "fairlead.db"
IN_USE = "in-use.lock"
"""Every open store holds this file with a shared lock, so that mending knows when nobody does."""


class Store:
    """One open store. Thread-safe; any number of processes may open the same directory at once.

    ``recovered`` holds sentences about what had to be mended, for people.
    """

    def __init__(
        self, directory: Path, database: Database, traces: Traces, recovered: list[str], held: contextlib.ExitStack
    ) -> None:
        self.directory = directory
        self.recovered = recovered
        self.traces = traces
        self.keys = Keys(database)
        self.conversations = Conversations(database)
        self.feedback = FeedbackLog(database)
        self.handoffs = Handoffs(database)
        self.outcomes = Outcomes(database)
        self.news = News(database)
        self.actions = Actions(database)
        self.releases = Releases(database)
        self.usecases = UseCases(database)
        self.audit = Audit(database)
        self.objects = Objects(directory / "objects")
        self.datasets = Datasets(database, self.objects)
        self.verdicts = Verdicts(database)
        self.calibrations = Calibrations(database)
        self.runs = Runs(database)
        self.derived = Derived(directory / "derived")
        self.jobs = Jobs(database)
        self.presence = Presence(directory / "workers")
        self.files = Files(database, directory / "files")
        self.batches = Batches(database, directory / "batches")
        self.answers = Answers(directory / "answers.db")
        self.counters = Counters()
        self.ledger = Ledger(database, directory / "holders")
        held.callback(self.ledger.close)
        self._database = database
        self._held = held

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        flush_ms: float = 200,
        segment_rows: int = 100_000,
        segment_s: float = 600.0,
        queue: int = 10_000,
    ) -> Store:
        """Open the store in a directory, creating or migrating it.

        ``flush_ms``: longest time a trace stays only in memory; ``segment_rows`` and ``segment_s``: when a journal
        becomes a segment; ``queue``: traces waiting to be written before more are dropped.
        Raises StoreNewer, StoreBusy, StoreDamaged, StoreFull, or StoreError when the directory cannot be used.
        """
        directory = Path(directory).resolve()
        recovered: list[str] = []
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                stack.enter_context(_in_use(directory))
                database = Database(directory / DATABASE)
                stack.callback(database.close)
                traces = Traces(
                    directory / "traces",
                    database,
                    flush_ms=flush_ms,
                    segment_rows=segment_rows,
                    segment_s=segment_s,
                    queue=queue,
                    recovered=recovered,
                )
                stack.callback(traces.close)
                held = stack.pop_all()
        except OSError as error:
            for path in (directory, *directory.parents):
                if path.exists() and not path.is_dir():
                    detail = f"The store cannot be in {directory}: {path} is a file, not a folder. Change --data-dir."
                    raise StoreError(detail=detail) from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFull(path=directory, detail=error.strerror) from error
            reason = error.strerror or type(error).__name__
            detail = f"The store {directory} cannot be used ({reason}). Make it writable, or change --data-dir."
            raise StoreError(detail=detail) from error
        return cls(directory, database, traces, recovered, held)

    def secret(self, name: str) -> bytes:
        """32 random bytes that stay the same for this store, such as the key behind pseudonyms. Raises StoreError."""
        return secrets.keep(self.directory, name)

    def check(self) -> list[str]:
        """What a full check of the database finds wrong; reads everything. Empty when it is whole."""
        return self._database.problems()

    def close(self) -> None:
        """Write what waits and let go of everything. Idempotent."""
        self.answers.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _in_use(directory: Path) -> Iterator[None]:
    handle = os.open(directory / IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(path=directory / DATABASE, seconds=0) from None
        yield
    finally:
        os.close(handle)
