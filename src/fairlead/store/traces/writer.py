"""From the serving path to the journal: a bounded queue and one thread that encodes and writes.

Whoever serves a request pays for one append to a queue. The thread wakes up every ``flush_s`` seconds, so a killed
process loses at most that much; what ``flush`` has confirmed, it never loses. A full disk stops nothing: records wait
in the queue, and when that is full they are counted and dropped. The writer knows journals, not segments.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from fairlead.errors import StoreClosed, StoreFull
from fairlead.records import Inference
from fairlead.store.rows import clean
from fairlead.store.traces.journal import MOST_BYTES, Journal, frame, journals_in

log = logging.getLogger("fairlead.store")

BATCH = 64
"""Records encoded and written in one go: some 300 µs, so that the thread never keeps others waiting for long."""

_ADOPT_BYTES = 16 << 20
_RETRY_S = 0.5


class _Mark:
    """A place in the queue: set when everything before it is written."""

    def __init__(self, *, seal: bool = False) -> None:
        self.seal = seal
        self.reached = threading.Event()


class Writer:
    """Owns the journal of this process. ``append`` may be called from any thread."""

    def __init__(
        self,
        directory: Path,
        *,
        flush_s: float,
        queue: int,
        rotate_rows: int,
        rotate_s: float,
        sealed: Callable[[Journal], None],
        is_rolled: Callable[[str], bool],
    ) -> None:
        self.dropped = 0
        self.error = ""
        self.cpu_s = 0.0
        self.written = 0
        self._directory = directory
        self._flush_s = flush_s
        self._limit = queue
        self._rotate_rows = rotate_rows
        self._rotate_us = rotate_s * 1e6
        self._sealed = sealed
        self._is_rolled = is_rolled
        self._queue: deque[Inference | _Mark] = deque()
        self._pending: list[bytes] = []
        self._marks: list[_Mark] = []
        self._offset = 0
        self._journal: Journal | None = None
        self._encoder = msgspec.json.Encoder()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._closing = False
        self._thread: threading.Thread | None = None

    def append(self, record: Inference) -> bool:
        """Queue a record. False, and counted, when the queue is full or the store is closed."""
        queue = self._queue
        if len(queue) >= self._limit or self._closing:
            with self._lock:
                self.dropped += 1
            return False
        queue.append(record)
        if self._thread is None:
            self._start()
        if len(queue) * 2 == self._limit:
            self._wake.set()
        return True

    def flush(self, timeout_s: float = 10.0, *, seal: bool = False) -> None:
        """Wait until everything appended so far is in the journal (and with ``seal``, that journal is finished).

        Raises StoreFull, with the reason, when the disk takes nothing for ``timeout_s`` seconds.
        """
        if self._thread is None:
            return
        mark = _Mark(seal=seal)
        self._queue.append(mark)
        self._wake.set()
        if not mark.reached.wait(timeout_s):
            if not self._thread.is_alive():
                raise StoreClosed(path=self._directory)
            raise StoreFull(path=self._directory, detail=self.error or f"nothing was written for {timeout_s:g} s")

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then let go of the journal. What a full disk refuses is counted as dropped."""
        with self._lock:
            self._closing = True
        if self._thread is not None:
            self._wake.set()
            self._thread.join(timeout_s)
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def waiting(self) -> int:
        """Records not yet in the journal."""
        return len(self._queue) + len(self._pending)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fairlead-journal", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_RETRY_S if self.error else self._flush_s)
            self._wake.clear()
            self._work()
        self._work()
        if self.waiting:
            with self._lock:
                self.dropped += len(self._pending) + sum(isinstance(item, Inference) for item in self._queue)

    def _work(self) -> None:
        started = time.thread_time()
        while self._fill():
            if not self._write():
                break
        if not self.error and self._journal is not None and self._is_due(self._journal):
            self._seal()
        self.cpu_s += time.thread_time() - started

    def _fill(self) -> bool:
        """Encode the next batch, unless one still waits. False when there is nothing to write."""
        if self._pending or self._marks:
            return True
        queue = self._queue
        for _ in range(BATCH):
            try:
                item = queue.popleft()
            except IndexError:
                break
            if isinstance(item, _Mark):
                self._marks.append(item)
                break
            line = self._line(item)
            if line:
                self._pending.append(line)
        return bool(self._pending or self._marks)

    def _line(self, record: Inference) -> bytes:
        try:
            return frame(self._encoder.encode(record))
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
            pass
        try:
            return frame(self._encoder.encode(clean(msgspec.to_builtins(record))))
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
            log.error("a record that cannot be written as JSON was dropped: %s", error)
            with self._lock:
                self.dropped += 1
            return b""

    def _write(self) -> bool:
        """Write the batch, going on where a full disk stopped it. False when the disk takes nothing now."""
        try:
            if self._pending:
                self._write_batch()
            if any(mark.seal for mark in self._marks):
                self._seal()
        except OSError as error:
            if not self.error:
                log.error("traces cannot be written, they wait in memory: %s", error)
            self.error = f"{error.strerror or error} ({self._directory})"
            return False
        if self.error:
            log.warning("traces can be written again")
            self.error = ""
        for mark in self._marks:
            mark.reached.set()
        self._marks.clear()
        return True

    def _write_batch(self) -> None:
        journal = self._journal
        if journal is None:
            journal = self._journal = self._adopt() or Journal.create(self._directory)
        data = memoryview(b"".join(self._pending))
        while self._offset < len(data):
            self._offset += journal.write(data[self._offset :])
        journal.rows += len(self._pending)
        self.written += len(self._pending)
        self._pending.clear()
        self._offset = 0
        if self._is_due(journal):
            self._seal()

    def _adopt(self) -> Journal | None:
        """Go on with a small journal that another process left behind, so that short processes make no heap of them."""
        for path in reversed(journals_in(self._directory)):
            journal = Journal.take(path)
            if journal is None:
                continue
            # One that has become a segment already is only waiting to be deleted.
            if journal.size <= _ADOPT_BYTES and journal.is_clean() and not self._is_rolled(journal.id):
                with path.open("rb") as file:
                    journal.rows = sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
                if not self._is_due(journal):
                    return journal
            journal.close()
        return None

    def _is_due(self, journal: Journal) -> bool:
        if not journal.rows:
            return False
        full = journal.rows >= self._rotate_rows or journal.size >= MOST_BYTES
        return full or journal.age_us() >= self._rotate_us

    def _seal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            self._sealed(journal)
