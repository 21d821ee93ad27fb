"""Traces: one Inference a row. Written to a journal, rolled to Parquet, read from both as if they were one table.

See docs/design/trace-store.md for why. Other rooms use ``Traces`` only.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fairlead.errors import RangeReversed, StoreClosed, StoreError, TracesUnreadable
from fairlead.records import Inference, time_of
from fairlead.store.database import Database
from fairlead.store.traces.index import FIGURES, Filter, Index, Indexes
from fairlead.store.traces.journal import Journal, journals_in
from fairlead.store.traces.roll import MAX_TIME, MIN_TIME, Roller, digest_of
from fairlead.store.traces.segments import FORMAT, Manifest, Segment
from fairlead.store.traces.writer import Writer

if TYPE_CHECKING:
    from fairlead.store.traces.parquet import Duck

log = logging.getLogger("fairlead.store")

_OWN_FLUSH_S = 5.0
_ATTEMPTS = 4


class Traces:
    """Append, query, sum up, roll. Thread-safe; several processes may share one directory."""

    def __init__(
        self,
        directory: Path,
        database: Database,
        *,
        flush_ms: float,
        segment_rows: int,
        segment_s: float,
        queue: int,
        recovered: list[str],
    ) -> None:
        self._directory = directory
        self._journals = directory / "journal"
        self._journals.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._recovered = recovered
        self._manifest = Manifest(database, directory)
        self._indexes = Indexes(self._journals)
        self._lock = threading.Lock()
        self._duck: Duck | None = None
        self._closed = threading.Event()
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._roll_error = ""
        self._interval_s = min(segment_s, 60.0)
        self._roller = Roller(
            directory, manifest=self._manifest, open_duck=_rolling_duck, rows=segment_rows, report=self._tell
        )
        self._writer = Writer(
            self._journals,
            flush_s=flush_ms / 1000,
            queue=queue,
            rotate_rows=segment_rows,
            rotate_s=segment_s,
            sealed=self._seal,
            is_rolled=lambda journal: bool(self._manifest.rolled([journal])),
        )
        self.append = self._writer.append  # bound once: this is the serving path
        self._mend()
        if self._manifest.is_empty() and any(directory.glob("day=*/*.parquet")):
            self._roller.run()  # the database is new, the segments are not
        self._at_exit = weakref.finalize(self, self._writer.close)

    # Writing

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return once everything appended so far is in the journal. Raises StoreFull when the disk takes nothing."""
        self._writer.flush(timeout_s)

    def roll(self) -> int:
        """Turn every journal that no other process holds into Parquet segments; returns the rows."""
        self._check_open()
        self._writer.flush(seal=True)
        return self._roller.run()

    @property
    def dropped(self) -> int:
        """Records lost because the queue was full."""
        return self._writer.dropped

    @property
    def writer_cpu_s(self) -> float:
        """CPU seconds the writing thread has used."""
        return self._writer.cpu_s

    # Reading

    def query(
        self,
        *,
        since: int,
        until: int,
        tenant: str | None = None,
        conversation: str | None = None,
        variant: str | None = None,
        status: int | None = None,
        parent: str | None = None,
        operation: str | None = None,
        limit: int = 100,
        before: str | None = None,
        order: Literal["desc", "asc"] = "desc",
    ) -> list[Inference]:
        """Records with ``since <= time < until`` (microseconds), ordered by time, then id.

        ``before`` is the id of the last record already seen in this order. Raises RangeReversed.
        """
        self._check_open()
        _check_range(since, until)
        if limit <= 0:
            return []
        wanted = Filter(
            since=since,
            until=until,
            tenant=tenant,
            conversation=conversation,
            variant=variant,
            status=status,
            parent=parent,
            operation=operation,
            cursor=self._cursor(before),
            descending=order == "desc",
        )
        for _ in range(_ATTEMPTS):
            journals, segments = self._snapshot(wanted)
            found = [record for index in journals for record in index.best(wanted, limit)]
            done = self._extend(found, segments, wanted, limit)
            if done is not None:
                return done
        raise StoreError(detail=f"The traces in {self._directory} changed too often to be read. Try again.")

    def get(self, identifier: str) -> Inference | None:
        """The record with an id."""
        self._settle()
        for _ in range(_ATTEMPTS):
            indexes = self._indexes.refresh()
            segments = self._manifest.around(identifier)
            for index in indexes:
                record = index.find(identifier)
                if record is not None:
                    return record
            if not segments:
                return None

            try:
                return self._open_duck().find(self._paths(segments), identifier, old=_is_old(segments))
            except TracesUnreadable as error:
                self._quarantine(segments, error)
        raise StoreError(detail=f"The traces in {self._directory} changed too often to be read. Try again.")

    def summary(
        self,
        *,
        since: int,
        until: int,
        bucket_us: int,
        tenant: str | None = None,
        variant: str | None = None,
        operation: str | None = None,
    ) -> list[dict[str, Any]]:
        """Figures per bucket of ``bucket_us`` microseconds that has records, oldest first.

        Each has ``time`` (where the bucket begins), ``count``, ``errors``, ``p50_total_us``, ``p95_total_us``,
        ``p50_first_token_us``, ``p95_first_token_us`` (None when no record has one), ``input_tokens``,
        ``output_tokens``, ``cost`` (nano-dollars; None when no record has one) and ``without_cost``, the records whose
        cost is unknown. Raises RangeReversed.
        """
        _check_range(since, until)
        wanted = Filter(since=since, until=until, tenant=tenant, variant=variant, operation=operation)
        for _ in range(_ATTEMPTS):
            journals, segments = self._snapshot(wanted)
            columns = _columns(journals, wanted)
            if not columns and not segments:
                return []

            try:
                return self._open_duck().summarise(
                    self._paths(segments), columns, wanted, bucket_us, old=_is_old(segments)
                )
            except TracesUnreadable as error:
                self._quarantine(segments, error)
        raise StoreError(detail=f"The traces in {self._directory} changed too often to be read. Try again.")

    def status(self) -> dict[str, Any]:
        """How much there is and how well it goes: numbers, and sentences for people."""
        self._settle()
        journals, segments = self._snapshot(Filter(since=MIN_TIME, until=MAX_TIME))
        times = [index.figures["time"] for index in journals if len(index)]
        quarantined = self._manifest.of_state("quarantined")
        return {
            "rows": sum(one.rows for one in segments) + sum(len(index) for index in journals),
            "segments": len(segments),
            "journals": len(journals),
            "bytes": sum(one.bytes for one in segments) + sum(_size(index.path) for index in journals),
            "oldest": min([*map(min, times), *(one.min_time for one in segments)], default=None),
            "newest": max([*map(max, times), *(one.max_time for one in segments)], default=None),
            "waiting": self._writer.waiting,
            "dropped": self.dropped,
            "error": self._writer.error or self._roll_error,
            "recovered": list(self._recovered),
            "quarantined": [
                {"path": one.path, "rows": one.rows, "since": one.min_time, "until": one.max_time, "detail": one.detail}
                for one in quarantined
            ],
        }

    def verify(self) -> list[str]:
        """Read every segment and compare it with what was written; returns what is wrong, after moving it aside."""
        self._check_open()
        before = len(self._recovered)
        segments = self._manifest.of_state("live")
        damaged = [one for one in segments if _damage(self._directory / one.path, one)]
        if damaged:
            self._quarantine(damaged, TracesUnreadable(detail="verify"))
        return self._recovered[before:]

    # Retention

    def expire(self, before: int) -> int:
        """Delete all records older than a time (microseconds), leaving no byte of them; returns how many went.

        Records in the journal of another process that is still running go when that journal has become a segment.
        """
        self._check_open()
        self.roll()
        return self._roller.expire(before)

    def close(self) -> None:
        """Write what waits and let go of everything."""
        self._closed.set()
        self._work.set()
        self._at_exit()
        if self._thread is not None:
            self._thread.join(30)
        self._roller.close()
        if self._duck is not None:
            self._duck.close()

    # Inside

    def _snapshot(self, wanted: Filter) -> tuple[list[Index], list[Segment]]:
        """Journals and segments that together hold every record once.

        The journals are read before the manifest: one that is rolled in between is in both, and the manifest says so.
        """
        self._settle()
        indexes = self._indexes.refresh()
        segments, rolled = self._manifest.snapshot(wanted.since, wanted.until, [index.id for index in indexes])
        return [index for index in indexes if index.id not in rolled], segments

    def _settle(self) -> None:
        """See what this process itself has written; a full disk must not keep anyone from reading."""
        self._check_open()
        if self._writer.error:
            return
        try:
            self._writer.flush(_OWN_FLUSH_S)
        except StoreError as error:
            log.debug("reading without the newest records: %s", error)

    def _extend(
        self, found: list[Inference], segments: list[Segment], wanted: Filter, limit: int
    ) -> list[Inference] | None:
        """The first ``limit`` of what was found and what the segments hold; None when the files have changed.

        Goes through the segments in order, a few at first: a page needs only the nearest.
        """
        down = wanted.descending
        segments = sorted(
            segments, key=lambda one: (one.max_time, one.id) if down else (one.min_time, one.id), reverse=down
        )
        best = _first(found, limit, down=down)
        start, step = 0, 1
        while start < len(segments):
            group = segments[start : start + step]
            if len(best) >= limit:
                edge = best[-1].time
                group = [one for one in group if (one.max_time >= edge if down else one.min_time <= edge)]
                if not group:
                    break

            try:
                more = self._open_duck().select(self._paths(group), wanted, limit, old=_is_old(group))
            except TracesUnreadable as error:
                self._quarantine(group, error)
                return None
            best = _first(best + more, limit, down=down)
            start, step = start + step, min(step * 2, 32)
        return best

    def _cursor(self, before: str | None) -> tuple[int, str] | None:
        if before is None:
            return None
        record = self.get(before)
        if record is not None:
            return record.time, record.id
        try:
            return time_of(before), before
        except ValueError:
            return None

    def _paths(self, segments: list[Segment]) -> list[Path]:
        return [self._directory / segment.path for segment in segments]

    def _quarantine(self, segments: list[Segment], error: TracesUnreadable) -> None:
        """Move aside the segments that are not what was written. One merely gone was replaced meanwhile.

        Raises the error again when all are as they were written: the reason is another.
        """
        live = {segment.id for segment in self._manifest.of_state("live")}
        blamed = False
        for segment in segments:
            path = self._directory / segment.path
            detail = _damage(path, segment) if segment.id in live else "gone"
            blamed = blamed or bool(detail)
            if detail and segment.id in live:
                aside = self._directory / "quarantine" / path.name
                aside.parent.mkdir(mode=0o700, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    path.rename(aside)
                self._manifest.mark(segment.id, "quarantined", detail)
                self._tell(
                    f"Segment {segment.path} is damaged ({detail}). Its {segment.rows} records from "
                    f"{_date(segment.min_time)} to {_date(segment.max_time)} are left out; the file is kept as {aside}."
                )
        if not blamed:
            raise error

    def _open_duck(self) -> Duck:
        with self._lock:
            if self._duck is None:
                self._duck = _query_duck()
            return self._duck

    def _seal(self, journal: Journal) -> None:
        self._roller.hand_over(journal)
        self._work.set()
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._keep_rolling, name="fairlead-roll", daemon=True)
                self._thread.start()

    def _keep_rolling(self) -> None:

        while not self._closed.is_set():
            self._work.wait(self._interval_s)
            self._work.clear()
            if self._closed.is_set():
                return
            try:
                self._roller.run(wait=False)
                self._roll_error = ""
            except (OSError, StoreError) as error:
                self._roll_error = f"Traces cannot be rolled: {error}"
                log.error("%s", self._roll_error)

    def _mend(self) -> None:
        """Mend the ends of journals whose process died."""
        for path in journals_in(self._journals):
            journal = Journal.take(path)
            if journal is None:
                continue
            try:
                sentence = journal.mend()
            except OSError as error:
                sentence = f"Journal {path.name} has a torn end that could not be set aside yet: {error}"
            finally:
                journal.close()
            if sentence:
                self._tell(sentence)

    def _tell(self, sentence: str) -> None:
        self._recovered.append(sentence)
        log.warning("%s", sentence)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StoreClosed(path=self._directory)


def _check_range(since: int, until: int) -> None:
    if since > until:
        raise RangeReversed(since=_date(since), until=_date(until), since_us=since, until_us=until)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # rolled a moment ago
        return 0


def _query_duck() -> Duck:
    from fairlead.store.traces.parquet import Duck  # 0.15 s and 25 MB: only when Parquet must be read

    return Duck(memory="300MB", threads=2)


def _rolling_duck(spill: Path) -> Duck:
    from fairlead.store.traces.parquet import Duck  # see above

    return Duck(memory="384MB", threads=1, spill=spill)


def _damage(path: Path, segment: Segment) -> str:
    """How a segment's file differs from what was written; empty when it does not."""
    if not path.exists():
        return "the file is missing"
    return "" if digest_of(path) == segment.digest else "its content has changed"


def _date(time: int) -> str:
    try:
        return f"{datetime.fromtimestamp(time / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time} µs"


def _is_old(segments: list[Segment]) -> bool:
    return any(segment.format != FORMAT for segment in segments)


def _first(records: list[Inference], limit: int, *, down: bool) -> list[Inference]:
    return sorted(records, key=lambda record: (record.time, record.id), reverse=down)[:limit]


def _columns(journals: list[Index], wanted: Filter) -> dict[str, Any]:
    """The journals' figures for the matching rows, as arrays of numpy."""
    found = [columns for index in journals if len(index) and (columns := index.columns(wanted))]
    if not found:
        return {}
    import numpy as np

    return {name: np.concatenate([columns[name] for columns in found]) for name in FIGURES}
