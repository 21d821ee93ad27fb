"""From journals to Parquet segments, safe against a crash between any two steps.

    verify the journals -> write one file aside -> rename it into its day -> record it, and what it came from, in one
    transaction -> remove the journals

Until the transaction the journals are the truth and a stray file is deleted by the next roll; from it on the segment is
the truth and a stray journal is deleted. One process rolls at a time (a lock file); serving never waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.errors import StoreError, TracesUnconvertible, TracesUnreadable
from fairlead.records import Inference, new_id, now_us
from fairlead.store.rows import clean
from fairlead.store.traces.journal import MOST_BYTES, SUFFIX, Journal, frame, journals_in, keep_aside, read
from fairlead.store.traces.segments import FORMAT, Manifest, Segment

if TYPE_CHECKING:
    from fairlead.store.traces.parquet import Duck

log = logging.getLogger("fairlead.store")

DAY_US = 86_400_000_000
MIN_TIME, MAX_TIME = -(1 << 63), (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEEP_NOTES_US = 7 * DAY_US
_SMALL = 5
"""From so many segments of a past day on, that day is merged into fewer."""

_MERGED_BYTES = 16 << 20
"""A merged segment has at most this size: about what a full journal becomes."""


def step(name: str) -> None:
    """Called between any two steps of a roll. Does nothing; the crash tests replace it."""


class Roller:
    """Rolls what is finished or left behind, merges small segments, deletes what is doomed."""

    def __init__(
        self,
        directory: Path,
        *,
        manifest: Manifest,
        open_duck: Callable[[Path], Duck],
        rows: int,
        report: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._journals = directory / "journal"
        self._aside = directory / "tmp"
        self._manifest = manifest
        self._open_duck = open_duck
        self._rows = rows
        self._report = report
        self._waiting: list[Journal] = []
        self._unmergeable: set[str] = set()
        self._duck: Duck
        self._guard = threading.Lock()
        self.rolled = 0

    def hand_over(self, journal: Journal) -> None:
        """Take a journal that will not be written to any more."""
        self._waiting.append(journal)

    def run(self, *, wait: bool = True) -> int:
        """Do all there is to do; returns the rows rolled meanwhile.

        Without ``wait``, nothing when another process is at it.
        """
        before = self.rolled
        with self._guard, self._alone(wait=wait) as alone:
            if alone:
                self._tidy()
                for batch in self._batches():
                    self.rolled += self._roll(batch)
                self._merge_days()
                self._manifest.bury()
        return self.rolled - before

    def expire(self, before: int) -> int:
        """Delete what is older than a time: whole segments, and the old rows of those that hold newer ones too.

        Returns how many rows went. Leaves no bytes of them in any file.
        """
        with self._guard, self._alone(wait=True):
            self._tidy()
            gone = sum(segment.rows for segment in self._manifest.doom(before))
            for segment in self._manifest.between(MIN_TIME, before):
                gone += self._cut(segment, before)
            self._manifest.bury()
        return gone

    def _cut(self, segment: Segment, before: int) -> int:
        """Write the newer rows of a segment to a new one."""
        origin = _text(_Origin(segments=[segment.id]))
        target = self._aside / f"{new_id()}.parquet"
        source = self._directory / segment.path
        self._duck.merge([source], target, origin=origin, bounds=(before, segment.max_time + 1))
        segments = self._place(target, origin)
        self._manifest.add(segments, replaces=[segment.id])
        return segment.rows - sum(one.rows for one in segments)

    def close(self) -> None:
        """Let go of journals not rolled yet; whoever opens the store next rolls them."""
        with self._guard:
            for journal in self._waiting:
                journal.close()
            self._waiting.clear()

    @contextlib.contextmanager
    def _alone(self, *, wait: bool) -> Iterator[bool]:
        """Be the only one who rolls, with a DuckDB of its own that gives its memory back afterwards."""
        handle = os.open(self._directory / "roll.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            self._duck = self._open_duck(self._aside / "spill")
            try:
                yield True
            finally:
                self._duck.close()
                shutil.rmtree(self._aside, ignore_errors=True)
        except BlockingIOError:
            yield False
        finally:
            os.close(handle)

    def _tidy(self) -> None:
        """Clear away what an interrupted roll left."""
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir(mode=0o700)
        self._manifest.bury()
        known = {segment.path for state in ("live", "quarantined") for segment in self._manifest.of_state(state)}
        strays = {path.stem: path for path in self._directory.glob("day=*/*.parquet") if self._name(path) not in known}
        if strays:
            self._settle(strays)
        present = [path.name.removesuffix(SUFFIX) for path in journals_in(self._journals)]
        self._manifest.forget_journals(now_us() - _KEEP_NOTES_US, present)

    def _settle(self, strays: dict[str, Path]) -> None:
        """Segments the manifest does not know: delete those whose rows are elsewhere, take in the others.

        The former are left by a crash before the transaction, the latter by the loss of the database.
        """
        origins: dict[str, _Origin] = {}
        for identifier, path in strays.items():
            try:
                origins[identifier] = msgspec.json.decode(self._duck.origin(path) or "{}", type=_Origin)
            except (TracesUnreadable, msgspec.MsgspecError) as error:
                self._report(f"Segment {self._name(path)} is unknown and cannot be read ({error}); it is left alone.")
        journals = {journal for origin in origins.values() for journal in origin.journals}
        elsewhere = self._manifest.rolled(journals) | {
            path.name.removesuffix(SUFFIX) for path in journals_in(self._journals)
        }
        held = {segment.id for segment in self._manifest.of_state("live")} | origins.keys()
        unwanted = {
            identifier
            for identifier, origin in origins.items()
            if elsewhere.intersection(origin.journals) or (origin.segments and held.issuperset(origin.segments))
        }
        for identifier, origin in origins.items():
            if identifier not in unwanted:  # a merge that was recorded: what it replaced is on its way out
                unwanted.update(origin.segments)
        adopted = []
        for identifier in origins:
            path = strays[identifier]
            if identifier in unwanted:
                path.unlink()
                continue
            adopted.append(self._describe(path))
            self._report(f"Segment {self._name(path)} was not in the manifest; its {adopted[-1].rows} rows are back.")
        taken = {journal for one in adopted for journal in origins[one.id].journals}
        self._manifest.add(adopted, journals=sorted(taken))

    def _batches(self) -> Iterator[list[Journal]]:
        """Finished and left-behind journals, together up to the size of a segment."""
        mine, self._waiting = self._waiting, []
        taken = [Journal.take(path) for path in journals_in(self._journals)]
        journals = mine + [journal for journal in taken if journal is not None]
        done = self._manifest.rolled(journal.id for journal in journals)
        batch: list[Journal] = []
        try:
            while journals:
                journal = journals.pop(0)
                if journal.id in done or not journal.size:
                    journal.remove()
                    continue
                batch.append(journal)
                if sum(one.size for one in batch) + (journals[0].size if journals else 0) > MOST_BYTES:
                    yield batch
                    batch = []
            if batch:
                yield batch
                batch = []
        finally:
            # Not rolled because something failed: they stay ours, to be tried again.
            self._waiting.extend(one for one in [*batch, *journals] if one.handle >= 0)

    def _roll(self, journals: list[Journal]) -> int:
        paths, rows, longest = [], 0, 0
        for journal in journals:
            path, count, length = self._verified(journal)
            rows, longest = rows + count, max(longest, length)
            if count:
                paths.append(path)
        step("verified")
        names = [journal.id for journal in journals]
        segments: list[Segment] = []
        if rows:
            origin = _text(_Origin(journals=names))
            target = self._aside / f"{new_id()}.parquet"
            self._convert(paths, target, longest=longest, origin=origin)
            step("written")
            segments = self._place(target, origin)
        self._manifest.add(segments, journals=names)
        step("recorded")
        for journal in journals:
            journal.remove()
            step("removed")
        return rows

    def _verified(self, journal: Journal) -> tuple[Path, int, int]:
        """The file to convert, its rows, and its longest line: the journal itself when every line is whole."""
        rows, longest, damage = 0, 0, []
        for start, data, found in read(journal.handle, 0, final=True):
            rows += len(found.lines)
            longest = max(longest, max((end - begin for begin, end in found.lines), default=0))
            damage += [(start + begin, data[begin:end]) for begin, end in found.damage]
        if not damage:
            return journal.path, rows, longest
        for offset, lost in damage:
            keep_aside(journal.path, lost, offset)
        places = "1 damaged place" if len(damage) == 1 else f"{len(damage)} damaged places"
        self._report(
            f"Journal {journal.path.name}: {places} ({sum(len(lost) for _, lost in damage)} bytes) "
            f"set aside in {journal.id}-*.torn; its {rows} whole records are kept."
        )
        copy = self._aside / f"{journal.id}.clean"
        with copy.open("wb") as file:
            for _, data, found in read(journal.handle, 0, final=True):
                file.writelines(data[begin:end] + b"\n" for begin, end in found.lines)
        return copy, rows, longest

    def _convert(self, paths: list[Path], target: Path, *, longest: int, origin: str) -> None:
        try:
            self._duck.roll(paths, target, longest=longest, origin=origin)
            return
        except TracesUnconvertible as error:
            log.warning("a journal is converted record by record: %s", error)
        target.unlink(missing_ok=True)
        plain = [self._rewritten(path) for path in paths]
        self._duck.roll(plain, target, longest=4 * longest, origin=origin)

    def _rewritten(self, path: Path) -> Path:
        """A copy that holds only records of the right types; the others are set aside."""
        copy = self._aside / f"{path.name}.plain"
        decoder, encoder = msgspec.json.Decoder(Inference, strict=False), msgspec.json.Encoder()
        with path.open("rb") as source, copy.open("wb") as file:
            for line in source:
                try:
                    file.write(frame(encoder.encode(_within_range(decoder.decode(line)))))
                except msgspec.MsgspecError as error:
                    aside = keep_aside(self._journals / path.name, line, source.tell())
                    self._report(f"A record that is no trace ({error}) was set aside in {aside.name}.")
        return copy

    def _place(self, target: Path, origin: str) -> list[Segment]:
        """Move the file into its day; one that spans days becomes one file a day."""
        rows = self._duck.bounds(target)[0]
        days = self._duck.days(target, DAY_US)
        parts = [(day, target) for day in days]
        if len(days) > 1:
            parts = [(day, self._aside / f"{new_id()}.parquet") for day in days]
            for day, part in parts:
                bounds = (day * DAY_US, (day + 1) * DAY_US)
                self._duck.merge([target], part, origin=origin, bounds=bounds)
        segments = []
        for day, part in parts:
            final = self._directory / _folder(day) / part.name
            final.parent.mkdir(mode=0o700, exist_ok=True)
            _sync(part)
            part.rename(final)
            _sync(final.parent)
            step("renamed")
            segments.append(self._describe(final))
        if sum(segment.rows for segment in segments) != rows:
            raise StoreError(detail=f"{rows} traces would not be complete as segments; they stay where they are.")
        return segments

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._directory))

    def _describe(self, path: Path) -> Segment:
        rows, first, last, low, high = self._duck.bounds(path)
        return Segment(
            id=path.stem,
            path=self._name(path),
            state="live",
            detail="",
            rows=rows,
            bytes=path.stat().st_size,
            digest=digest_of(path),
            min_time=first,
            max_time=last,
            min_id=low,
            max_id=high,
            format=FORMAT,
            created=now_us(),
        )

    def _merge_days(self) -> None:
        """Merge the small segments of days that are over."""
        today = now_us() // DAY_US
        days: dict[int, list[Segment]] = {}
        for segment in self._manifest.between(MIN_TIME, today * DAY_US):
            is_small = segment.rows < self._rows // 2 and segment.bytes < _MERGED_BYTES // 2
            if is_small and segment.max_time // DAY_US < today and segment.id not in self._unmergeable:
                days.setdefault(segment.min_time // DAY_US, []).append(segment)
        for small in days.values():
            if len(small) >= _SMALL:
                self._merge(small)

    def _merge(self, small: list[Segment]) -> None:
        group: list[Segment] = []
        rows = 0
        for segment in small:
            size = sum(one.bytes for one in group) + segment.bytes
            if group and (rows + segment.rows > self._rows or size > _MERGED_BYTES):
                break
            group.append(segment)
            rows += segment.rows
        if len(group) < 2:
            return
        origin = _Origin(segments=[segment.id for segment in group])
        target = self._aside / f"{new_id()}.parquet"
        try:
            self._duck.merge([self._directory / segment.path for segment in group], target, origin=_text(origin))
        except TracesUnreadable as error:
            log.warning("small segments could not be merged, they stay as they are: %s", error)
            self._unmergeable.update(segment.id for segment in group)
            return
        step("merged")
        segments = self._place(target, _text(origin))
        self._manifest.add(segments, replaces=origin.segments)
        step("replaced")


class _Origin(msgspec.Struct):
    """What a segment was made from; written into the file, so that it can be told apart without the manifest."""

    journals: list[str] = []
    segments: list[str] = []


def _text(origin: _Origin) -> str:
    return msgspec.json.encode(origin).decode()


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(day: int) -> str:
    """The folder of a day counted from the epoch; times no calendar has get the bare number."""
    in_calendar = 0 <= day < (datetime.max.replace(tzinfo=UTC) - _EPOCH).days
    return f"day={_EPOCH + timedelta(days=day):%Y-%m-%d}" if in_calendar else f"day={day}"


def _within_range(record: Inference) -> Inference:
    values = clean(msgspec.to_builtins(record))
    for name, value in values.items():
        if isinstance(value, int) and not isinstance(value, bool):
            values[name] = max(-(1 << 63), min(value, (1 << 63) - 1))
    return msgspec.convert(values, Inference)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
