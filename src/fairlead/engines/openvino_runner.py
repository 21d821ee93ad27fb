"""One OpenVINO pipeline that works on several requests at once, and what makes text of its tokens.

The pipeline belongs to one thread: requests, cancellations and tokens go through queues, so that nothing of the library
is called from two places. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

Piece = tuple[str, str | None]
"""Text, and why the answer ended, None while it goes on."""
FINISHED: Final = {"STOP": "stop", "LENGTH": "length"}
BROKEN: Final = "\ufffd"
"""What a decoder writes for a character of which only some tokens have come."""


class Words:
    """Text from tokens as they come: whole characters only. ``decode`` makes text of token ids."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0
        self._told = 0

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is new. A few tokens before it are decoded with it: spaces depend on their neighbours."""
        self._ids += ids
        return self._new(last=False)

    def end(self) -> str:
        """What is left, half a character as a mark."""
        return self._new(last=True)

    def _new(self, *, last: bool) -> str:
        before = self._decode(self._ids[self._start : self._told]) if self._told > self._start else ""
        now = self._decode(self._ids[self._start :]) if len(self._ids) > self._start else ""
        if len(now) <= len(before) or (now.endswith(BROKEN) and not last):
            return ""
        self._start, self._told = self._told, len(self._ids)
        return now[len(before) :]


class Stops:
    """Cuts text before whichever of ``texts`` is whole first; what may be the beginning of one is held back."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """(text that may be told, whether a stop has come)."""
        whole = self._held + text
        ends = [(place + len(stop), place) for stop in self._texts if (place := whole.find(stop)) >= 0]
        if ends:
            self._held = ""
            return whole[: min(ends)[1]], True
        keep = max((self._overlap(whole, stop) for stop in self._texts), default=0)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep], False

    def rest(self) -> str:
        """What was held back and is the beginning of nothing."""
        return self._held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class Job:
    """One request. ``pieces`` is read in the event loop; ``read`` and ``written`` count its tokens."""

    def __init__(self, ids: Any, config: Any, words: Words, stops: Stops, *, read: int) -> None:
        self.ids = ids
        self.config = config
        self.words = words
        self.stops = stops
        self.read = read
        self.written = 0
        self.cancelled = False
        self.handle: Any = None
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def tell(self, piece: Piece | Exception) -> None:
        """Hand something to the event loop, from any thread."""
        self._loop.call_soon_threadsafe(self.pieces.put_nowait, piece)


class Runner(threading.Thread):
    """Steps ``pipeline`` while there is work. ``failed`` is called when it cannot go on."""

    def __init__(self, pipeline: Any, failed: Callable[[Exception], None]) -> None:
        super().__init__(name="openvino", daemon=True)
        self._pipeline = pipeline
        self._failed = failed
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._active: list[Job] = []
        self._number = 0

    def add(self, job: Job) -> None:
        """Work on ``job`` beside the others. Setting its ``cancelled`` ends it before the next token."""
        self._inbox.put(job)

    def run(self) -> None:
        """Until the process ends."""
        try:
            while True:
                self._take()
                if self._pipeline.has_non_finished_requests():
                    self._pipeline.step()
                self._active = [job for job in self._active if self._goes_on(job)]
        except Exception as error:  # noqa: BLE001  native code raises what it likes, and nothing works after it
            for job in self._active:
                job.tell(error)
            self._failed(error)

    def _take(self) -> None:
        """New jobs; waits for one while there is nothing to do."""
        while not self._active or not self._inbox.empty():
            job = self._inbox.get()
            if job.cancelled:
                continue
            self._number += 1
            try:
                job.handle = self._pipeline.add_request(self._number, job.ids, job.config)
            except (RuntimeError, ValueError) as error:
                job.tell(error)
            else:
                self._active.append(job)

    def _goes_on(self, job: Job) -> bool:
        if job.cancelled:
            job.handle.cancel()
            return False
        ended = ""
        while job.handle.can_read():
            for output in job.handle.read().values():
                job.written += len(output.generated_ids)
                text, stopped = job.stops.feed(job.words.feed(output.generated_ids))
                ended = FINISHED.get(output.finish_reason.name, "")
                if stopped:
                    job.handle.cancel()
                    job.tell((text, "stop"))
                    return False
                if ended:
                    more, stopped = job.stops.feed(job.words.end())
                    job.tell((text + more + ("" if stopped else job.stops.rest()), ended))
                    return False
                if text:
                    job.tell((text, None))
        return True
