"""The cache: looks for an answer before a model is called, and keeps the one the model gave.

Two steps of the request path: ``recall`` (after it is known who answers) and ``keep`` (the last of the checks). In
order: the very same question answered before, the same question being answered right now, and, where that is switched
on, one that says the same and whose likeness has earned it. Runs on one event loop; the disk is read and written by a
thread, twice a second. Only requests over HTTP take part: what the assistant asks belongs to a conversation.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, Protocol

import msgspec
import orjson

from fairlead.errors import CallerGone, FairleadError, ShuttingDown
from fairlead.gateway.cache.bands import Band, Bands, Bound
from fairlead.gateway.cache.control import ANY, Control, read_control
from fairlead.gateway.cache.entry import Entry, finish_of, whole_of
from fairlead.gateway.cache.flight import Flight, Listener, Tap
from fairlead.gateway.cache.neighbours import Judge, Neighbours
from fairlead.gateway.cache.question import Question, ask, why_not
from fairlead.gateway.cache.rules import LARGEST, Rules
from fairlead.gateway.cache.shelf import Shelf
from fairlead.gateway.cache.tally import Tallied, Tally
from fairlead.gateway.exchange import Exchange, Known, Shown, Usage
from fairlead.gateway.route import Route
from fairlead.gateway.usage import cost_of, folded_of, usage_of
from fairlead.providers.base import Reply
from fairlead.records import KeptAnswer, now_us

SYNC_S: Final = 0.5
PATIENCE: Final = -0.5
"""A stream is joined that may go on for at least half as long as who joins would wait."""
LONGEST_KNOWN: Final = 64 * 1024
"""Bytes of a request body up to which its key is remembered."""
_VECTOR: Final = 3_000
"""Bytes a question takes that is compared by likeness."""
_HEADERS: Final = {
    how: ((b"x-fairlead-cache", said),)
    for how, said in {
        "": b"miss",
        "exact": b"hit",
        "coalesced": b"hit; coalesced",
        "semantic": b"hit; semantic",
    }.items()
}
logger = logging.getLogger(__name__)


class News(Protocol):
    """What the disk had to tell: answers other processes kept, and whether somebody purged.

    ``last`` is the number of the newest of them; ``bands`` is what was learnt, empty but for the first time.
    """

    @property
    def generation(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def answers(self) -> list[KeptAnswer]: ...
    @property
    def bands(self) -> bytes: ...


class Backing(Protocol):
    """Where answers outlive the process; ``store.answers`` is one."""

    def exchange(
        self, answers: list[KeptAnswer], tallied: list[Tallied], bands: bytes, *, after: int, generation: int
    ) -> News:
        """Write what is new and read what others wrote after number ``after``.

        Answers are not written where ``generation`` is no longer the disk's: they were asked to be forgotten.
        """
        ...


class Lookup(msgspec.Struct, kw_only=True):
    """What a request looked for and did not find: where its answer will be kept."""

    question: Question
    route: Route
    control: Control
    flight: Flight
    leads: bool
    began: int
    shadow: tuple[Entry, Band] | None = None
    prepared: Any = None


class Cache:
    """One process's cache. ``mask`` tells what may be written to disk: texts it changes are personal, so not those.

    ``judge`` and ``bound`` are needed for paraphrases; ``draw`` and ``clock`` are for tests.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        secret: bytes,
        mask: Callable[[str], str] = lambda text: text,
        backing: Backing | None = None,
        judge: Judge | None = None,
        bound: Bound | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self.rules = rules
        self.tally = Tally()
        self._secret = secret
        self._mask = mask
        self._backing = backing
        self._judge = judge if rules.verified is not None else None
        self._bands = Bands(rules.verified, bound) if rules.verified is not None and bound is not None else None
        self._draw = draw
        self._clock = clock
        self._neighbours = Neighbours()
        self._shelf = Shelf(rules.bytes_ * 3 // 4, self._forget)
        self._known: OrderedDict[tuple[bytes, str, bytes], Known] = OrderedDict()
        self._known_size = 0
        self._flights: dict[tuple[bytes, bool], Flight] = {}
        self._pending: list[tuple[KeptAnswer, list[str]]] = []
        """Answers for the disk, each with its words."""
        self._ttl_us = round(rules.ttl_s * 1e6)
        self._generation = self._last = -1
        self._task: asyncio.Task[None] | None = None

    # --- the path ---------------------------------------------------------------------------------------------------

    def may_know(self, authorization: bytes, operation: str, raw: bytes) -> bool:
        """Whether it is worth asking ``recognise``."""
        return (authorization, operation, raw) in self._known

    def recognise(self, x: Exchange) -> bool:
        """Whether these very bytes were asked before by this caller and answered from here; then nothing is read."""
        known = self._known.get((x.authorization, x.operation, x.raw))
        if known is None or known.principal is not x.principal:
            return False
        x.known, x.body, x.sent = known, known.body, dict(known.sent)
        x.stream, x.subject = known.stream, known.subject
        return True

    async def recall(self, x: Exchange) -> None:
        """Set the reply where one is known; else note what is looked for. A step of the path."""
        route = x.route
        if route is None or not x.raw:
            return
        control = read_control(x.cache_control) if x.cache_control else ANY
        if control is ANY and self.has_known(x, route):
            self.give_known(x)
            return
        if control.unkept or why_not(x, route, sampled=self.rules.sampled):
            self.tally.count(_tenant(x), route.name, "bypassed")
            return
        question = ask(x, route, self._secret, framed=self._judge is not None)
        await self._look(x, route, question, control)
        self._tell(x)

    def has_known(self, x: Exchange, route: Route) -> bool:
        """Whether the answer given to these very bytes before is still what ``route`` would give."""
        known = x.known
        return known is not None and known.route is route and self._shelf.get(known.key, self._clock()) is known.entry

    def give_known(self, x: Exchange) -> None:
        """Set the reply to the answer that ``has_known`` said is there."""
        if x.known is not None:
            self._serve(x, x.known.entry, "exact", x.known.shown)
            self._tell(x)

    def _tell(self, x: Exchange) -> None:
        """Say in a header how it went, to who proved by a key whose traffic it is: keys of others never lead here."""
        if x.principal is not None and x.principal.key_id:
            x.headers = (*x.headers, *_HEADERS[x.recalled])

    async def _look(self, x: Exchange, route: Route, question: Question, control: Control) -> None:
        place = (question.key, x.stream)
        while True:
            entry = self._find(question.key, control)
            if entry is not None:
                self._serve(x, entry, "exact", self._remember(x, route, entry))
                return
            flight = self._flights.get(place)
            if flight is None or control.fresh:
                break
            if x.stream and flight.ends - x.deadline < PATIENCE * (x.deadline - asyncio.get_running_loop().time()):
                self.tally.count(_tenant(x), route.name, "miss")
                return  # the call would be given up while this one still waits
            outcome = await flight.outcome()
            if isinstance(outcome, Entry):
                x.route = flight.route
                self._serve(x, outcome, "coalesced", None)
                return
            if isinstance(outcome, Listener):
                self._follow(x, flight, outcome, question, control)
                return
            if outcome == "failed":  # on its own, as if nobody had been waited for
                self.tally.count(_tenant(x), route.name, "miss")
                return
        prepared = self._judge.prepare(question.text) if self._judge is not None and question.frame else None
        shadow = None if prepared is None or control.fresh else self._candidate(x, route, question, prepared)
        if shadow is not None and self._may_answer(shadow[1]):
            shadow[1].served += 1
            self._serve(x, shadow[0], "semantic", None)
            return
        self.tally.count(_tenant(x), route.name, "miss")
        flight = self._flights[place] = Flight(route, x.deadline)
        x.lookup = Lookup(
            question=question, route=route, control=control, flight=flight, leads=True, began=x.elapsed_us(),
            shadow=shadow, prepared=prepared,
        )  # fmt: skip
        x.afterwards.append(self._after)

    def _find(self, key: bytes, control: Control) -> Entry | None:
        if control.fresh:
            return None
        now = self._clock()
        entry = self._shelf.get(key, now)
        if entry is not None and control.max_age_s is not None and now - entry.answer.created > control.max_age_s * 1e6:
            return None
        return entry

    def _candidate(self, x: Exchange, route: Route, question: Question, prepared: Any) -> tuple[Entry, Band] | None:
        """The kept answer to the question likest to this one, with the band of their likeness."""
        if self._judge is None or self._bands is None or (x.body.get("n") or 1) > 1:
            return None
        near = self._neighbours.nearest(question.frame, prepared)
        if near is None:
            return None
        now = self._clock()
        entry = self._shelf.get(near[0], now)
        band = self._bands.of(_tenant(x), route.name, self._judge.odds(prepared, near[1]), now)
        return None if entry is None or band is None else (entry, band)

    def _may_answer(self, band: Band) -> bool:
        verified = self.rules.verified
        if verified is None or self._bands is None or not self._bands.is_open(band):
            return False
        return self._draw() >= verified.verify

    def _serve(self, x: Exchange, entry: Entry, how: str, shown: Shown | None) -> None:
        x.recalled, x.shown = how, shown
        x.tags["cache"] = how
        x.reply = Reply(200, chunks=_replay(entry.pieces())) if x.stream else Reply(200, body=entry.body())
        answer = entry.answer
        route = x.route.name if x.route is not None else ""
        self.tally.count(_tenant(x), route, how, max(0, answer.nanos), max(0, answer.took_us - x.elapsed_us()))

    def _follow(self, x: Exchange, flight: Flight, heard: Listener, question: Question, control: Control) -> None:
        x.recalled = x.tags["cache"] = "coalesced"
        x.route = flight.route
        x.reply = Reply(200, chunks=heard)
        x.lookup = Lookup(
            question=question, route=flight.route, control=control, flight=flight, leads=False, began=x.elapsed_us()
        )  # fmt: skip
        x.afterwards.append(self._after)
        self.tally.count(_tenant(x), flight.route.name, "coalesced")

    async def keep(self, x: Exchange) -> None:
        """Keep a whole answer that passed every check before this one, or listen to a stream. A step of the path."""
        lookup, reply = x.lookup, x.reply
        if lookup is None or reply is None or not lookup.leads:
            return
        if reply.chunks is not None:
            place = (lookup.question.key, True)
            flight = lookup.flight
            tap = Tap(reply.chunks, lambda tap: self._gone(place, flight))
            reply.chunks = tap.listen(first=True)
            flight.begun(tap)
            return
        entry = self._store(x, lookup, reply.body or b"", (x.answer or {}).get("choices"))
        lookup.flight.land(entry or "failed")

    def _gone(self, place: tuple[bytes, bool], flight: Flight) -> None:
        if self._flights.get(place) is flight:
            del self._flights[place]

    def _after(self, x: Exchange) -> None:
        """The last byte has gone, or there will be none."""
        lookup = x.lookup
        if lookup is None:
            return
        flight, tap = lookup.flight, lookup.flight.tap
        if tap is None:
            self._gone((lookup.question.key, x.stream), flight)
            flight.land("left" if isinstance(x.error, CallerGone | ShuttingDown) else "failed")
        elif x.error is None and not flight.over and tap.whole and x.relay is not None and x.relay.is_done():
            entry = self._store(x, lookup, b"".join(tap.pieces), folded_of(x, x.relay).choices, stream=True)
            flight.land(entry or "failed")

    def _store(self, x: Exchange, lookup: Lookup, data: bytes, choices: Any, *, stream: bool = False) -> Entry | None:
        """Keep an answer if it may be; a model that stood in for the one asked is not what was asked for."""
        finish = "stop" if x.operation == "embedding" else finish_of(choices)
        fits = finish == "stop" and 0 < len(data) <= LARGEST
        if not fits or x.route is not lookup.route or lookup.control.unkept:
            return None
        question, route, now = lookup.question, lookup.route, self._clock()
        entry = Entry(
            KeptAnswer(
                key=question.key, tenant=_tenant(x), subject=question.subject, route=route.name, release=route.release,
                operation=x.operation, writer=x.id, created=now, expires=now + self._ttl_us,
                stream=stream, data=data, finish=finish, nanos=_nanos(route, usage_of(x)),
                took_us=max(0, x.elapsed_us() - lookup.began), parts=question.digests(),
                frame=question.frame, text=question.text,
            )
        )  # fmt: skip
        if lookup.shadow is not None and self._bands is not None and self._judge is not None:
            known, band = lookup.shadow
            wrong = not self._judge.agree(_words(known), _words(entry))
            self._bands.learn(band, wrong=wrong, now=now)
        self._put(entry, lookup.prepared)
        if self._backing is not None:
            self._pending.append((entry.answer, [] if x.operation == "embedding" else _said(choices)))
        return entry

    # --- what is kept -----------------------------------------------------------------------------------------------

    def _put(self, entry: Entry, prepared: Any = None) -> None:
        answer = entry.answer
        if self._judge is not None and answer.frame:
            entry.size += _VECTOR
        self._shelf.put(entry)
        if self._judge is not None and answer.frame and self._shelf.get(answer.key, 0) is entry:
            self._neighbours.add(answer.frame, answer.key, prepared or self._judge.prepare(answer.text))

    def _forget(self, entry: Entry) -> None:
        if entry.answer.frame:
            self._neighbours.drop(entry.answer.frame, entry.answer.key)

    def _remember(self, x: Exchange, route: Route, entry: Entry) -> Shown | None:
        """Let ``recognise`` know these bytes from now on. Returns where their record's texts are kept."""
        if x.known is not None:
            self._unknow((x.authorization, x.operation, x.raw))
        if len(x.raw) > LONGEST_KNOWN or x.principal is None:
            return None
        # Decoded body, record's texts and bytes themselves: about five times the request and twice the answer.
        size = 2_000 + 5 * len(x.raw) + 2 * len(entry.answer.data)
        known = Known(
            principal=x.principal, body=x.body, sent=x.sent, stream=x.stream, subject=x.subject, route=route,
            key=entry.answer.key, entry=entry, shown=Shown(finish=entry.answer.finish), size=size,
        )  # fmt: skip
        self._known[x.authorization, x.operation, x.raw] = known
        self._known_size += size
        while self._known_size > self.rules.bytes_ // 4:
            self._unknow(next(iter(self._known)))
        return known.shown

    def _unknow(self, place: tuple[bytes, str, bytes]) -> None:
        known = self._known.pop(place, None)
        if known is not None:
            self._known_size -= known.size

    def clear(self) -> None:
        """Forget every answer in memory."""
        self._shelf.clear()
        self._known.clear()
        self._known_size = 0
        self._pending.clear()

    @property
    def entries(self) -> int:
        """Answers in memory."""
        return len(self._shelf)

    @property
    def size(self) -> int:
        """Bytes they take, about."""
        return self._shelf.size + self._known_size

    def show_bands(self) -> list[dict[str, Any]]:
        """Every band of likeness, with its evidence."""
        return self._bands.show() if self._bands is not None else []

    # --- the disk ---------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Read what is on disk now and, in the running loop, go on exchanging."""
        if self._backing is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def _go_on(self) -> None:
        while True:
            await self.sync()
            await asyncio.sleep(SYNC_S)

    async def sync(self) -> None:
        """Write what is new, read what others wrote, forget what was purged. A disk that fails costs only itself."""
        backing = self._backing
        if backing is None:
            return
        pending, self._pending = self._pending, []
        tallied = self.tally.take_new()
        bands = self._bands.dump() if self._bands is not None else b""
        after, generation = self._last, self._generation
        mask = self._mask

        def work() -> News:
            return backing.exchange(
                [answer for answer, said in pending if not _is_personal((*said, answer.text), mask)], tallied, bands,
                after=after, generation=generation,
            )  # fmt: skip

        try:
            news = await asyncio.to_thread(work)
        except (FairleadError, OSError) as error:
            self.tally.give_back(tallied)
            logger.warning("Kept answers could not be written, those in memory stay: %s", error)
            return
        if self._generation not in (-1, news.generation):
            self.clear()
            if self._bands is not None:
                self._bands.clear()
        if self._bands is not None and news.bands:
            self._bands.load(news.bands)
        self._generation, self._last = news.generation, news.last
        self._take(news.answers)

    def _take(self, answers: Iterable[KeptAnswer]) -> None:
        now = self._clock()
        for answer in answers:
            if answer.expires > now and self._shelf.get(answer.key, now) is None:
                self._put(Entry(answer))

    async def aclose(self) -> None:
        """Write what waits and stop. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self.sync()


def _tenant(x: Exchange) -> str:
    return x.principal.tenant if x.principal is not None else ""


async def _replay(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _nanos(route: Route, usage: Usage) -> int:
    cost = None if usage.estimated else cost_of(route, usage)
    return -1 if cost is None else cost


def _texts(answer: KeptAnswer) -> list[str]:
    """The words of every choice."""
    if answer.operation == "embedding":
        return []
    body = orjson.loads(whole_of(answer.data, answer.operation) if answer.stream else answer.data)
    return _said(body.get("choices"))


def _said(choices: Any) -> list[str]:
    """The words of each choice."""
    texts = []
    for choice in choices or ():
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else choice.get("text")
        texts.append(content if isinstance(content, str) else orjson.dumps(content).decode())
    return texts


def _words(entry: Entry) -> str:
    return "\n".join(_texts(entry.answer))


def _is_personal(texts: Iterable[str], mask: Callable[[str], str]) -> bool:
    return any(mask(text) != text for text in texts)
