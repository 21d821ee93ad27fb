"""Admission: whether a request may start now, by rate, tokens, number and money; and what it is charged when it ends.

A step of the gateway's path (``admit``). Nothing here waits for a database unless a purse is empty; nothing here knows
HTTP, only the headers a refusal should carry. What a request needs at most is set aside before it starts and settled by
what it used, however it ended.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from fairlead.admission import headers
from fairlead.admission.books import Book, Periods
from fairlead.admission.purses import Bank, Promise, Purse
from fairlead.admission.rates import Meter
from fairlead.admission.rules import NONE, LimitRules, tightest
from fairlead.errors import (
    AnswerUnfit,
    BudgetSpent,
    CallerGone,
    FairleadError,
    LimitTooSmall,
    PriceUnknown,
    RateLimited,
    ServiceError,
    ShuttingDown,
    TooManyAtOnce,
    UpstreamBroken,
    UpstreamTimeout,
)
from fairlead.gateway import Exchange, Principal, Route
from fairlead.gateway.exchange import Usage
from fairlead.gateway.usage import BYTES_PER_TOKEN, NOTHING, cost_of, size_of, usage_of
from fairlead.records import Key, now_us
from fairlead.store.ledger import Scope

FREE: Final = (0.0, 0.0)
IMAGE_TOKENS: Final = 5_000
"""The most an image is taken to be; its bytes say nothing of it."""
MESSAGE_TOKENS: Final = 16
"""Tokens of a chat template around a message, at most."""
COMPLAINT_TOKENS: Final = 2_048
"""The most it takes to tell a model why its answer does not fit its schema."""
FIRST_OUTPUT: Final = 256.0
"""Tokens an answer is expected to have before any was seen."""
MOST_BOOKS: Final = 20_000
MOST_SEATS: Final = 10_000
NOBODY: Final = Principal()
OTHERS: Final = "(others)"
"""Users beyond MOST_BOOKS share one book, so that inventing users neither fills the memory nor avoids a limit."""
PRICE_LINE: Final = "price: {input_usd_per_million: …, output_usd_per_million: …}"
REPORT_S: Final = 2.0
RECOVER_ROUNDS: Final = 15
_SECONDS: Final = 1_000_000_000
_MANY: Final = 1 << 62
_MAY_HAVE_WORKED: Final = (UpstreamTimeout, UpstreamBroken, AnswerUnfit, CallerGone, ShuttingDown)
log = logging.getLogger(__name__)


def able_for(route: Route, routes: Mapping[str, Route]) -> dict[str, Route]:
    """Who may answer for ``route``, by name: itself or those it chooses from, and whoever stands in for them."""
    split = route.split
    first = [route] if split is None else [routes[split.small], routes[split.big]]
    others = [routes[name] for each in first for name in each.fallback if name in routes]
    return {each.name: each for each in (*first, *others)}


class Tariff:
    """What a route costs at most: the dearest of those that may answer, by choice or in another's place. ``unknown``
    are those of which nobody says what they cost. ``hedges`` and ``repairs``: one of them may be asked twice.
    """

    __slots__ = ("default_output", "hedges", "input", "output", "repairs", "unknown", "written")

    def __init__(self, route: Route, routes: Mapping[str, Route], own: frozenset[str]) -> None:
        able = able_for(route, routes).values()
        self.hedges = any(each.hedge for each in able)
        self.repairs = any(each.repairs for each in able)
        prices = [each.price or (FREE if each.name in own else None) for each in able]
        self.unknown = tuple(each.name for each, price in zip(able, prices, strict=True) if price is None)
        known = [price for price in prices if price is not None]
        self.input = max((price[0] for price in known), default=0.0)
        self.output = max((price[1] for price in known), default=0.0)
        lengths = [each.defaults.get("max_tokens") for each in able]
        stated = [length for length in lengths if length is not None]
        self.default_output: int | None = max(stated) if len(stated) == len(able) else None
        self.written = FIRST_OUTPUT

    @property
    def is_free(self) -> bool:
        """Whether no request can cost anything."""
        return not self.unknown and not self.input and not self.output

    def learn(self, usage: Usage) -> None:
        """An answer has come: what the next one will probably write."""
        if usage.output and not usage.estimated:
            self.written += 0.05 * (usage.output - self.written)


class Stay:
    """That a request was let in to a model it does not name: chosen by a router or by weight, or standing in."""

    __slots__ = ("book", "estimate", "model", "promises", "tariff")

    def __init__(self, model: str, book: Book, estimate: int, tariff: Tariff) -> None:
        self.model = model
        self.book = book
        self.estimate = estimate
        self.tariff = tariff
        self.promises: tuple[Promise, ...] = ()

    def end(self, seconds: float, used: int, cost: int) -> None:
        """Settle it: ``used`` tokens for ``cost``, both 0 where another model answered."""
        self.book.close(seconds, used - self.estimate)
        for promise in self.promises:
            promise.keep(cost, counts=bool(used))


class Visit:
    """One admitted request: called when it has ended, to settle it.

    ``books`` count it where it came in and for the model it names, ``stays`` for others that were asked.
    """

    __slots__ = (
        "_admission", "_began", "books", "estimate", "headers", "length", "promises", "refusal", "stays", "tariff",
    )  # fmt: skip

    def __init__(self, admission: Admission, books: Sequence[Book], tariff: Tariff | None, now: int) -> None:
        self._admission = admission
        self._began = now
        self.books = books
        self.tariff = tariff
        self.length: int | None = None
        """The longest answer the request allows, in tokens; None where nobody says."""
        self.estimate = 0
        self.promises: tuple[Promise, ...] = ()
        self.stays: list[Stay] = []
        self.headers: headers.Headers = ()
        self.refusal: ServiceError | None = None
        """Of a model that was chosen; another may have stood in for it."""

    def __call__(self, x: Exchange) -> None:
        """Give back what was not used."""
        usage = self._admission.used(x, self)
        used = usage.input + usage.output
        seconds = (self._admission.clock() - self._began) / _SECONDS
        for book in self.books:
            book.close(seconds, used - self.estimate)
        if self.tariff is not None:
            self.tariff.learn(usage)
        cost = 0
        if self.promises or self.stays:
            cost = (cost_of(x.route, usage, hedged="hedge" in x.tags) if x.route is not None else 0) or 0
        for promise in self.promises:
            promise.keep(cost, counts=bool(used))
        for stay in self.stays:
            if x.route is not None and x.route.name == stay.model:
                stay.tariff.learn(usage)
                stay.end(seconds, used, cost)
            else:
                stay.end(seconds, 0, 0)
        if self.refusal is not None and x.error is self.refusal:
            self._admission.count(self.refusal.code)


class Seat(NamedTuple):
    """Where the requests of one caller to one model count, who pays for them, and what they cost.

    ``key`` is the book of the caller's own key, whose limits another key of the same account may have changed.
    ``others``: another model with limits of its own may answer.
    """

    principal: Principal
    key: Book | None
    counted: tuple[Book, ...]
    paying: tuple[Book, ...]
    tariff: Tariff | None
    others: bool


class Admission:
    """All limits of one process. ``count`` is told the reason of every refusal; ``unsent`` names requests (exchange
    ids) that were given up before their model was asked; ``own`` routes that nobody bills if they have no price;
    ``key_of`` finds a key by its id or the id of the one it replaces.
    """

    def __init__(
        self,
        *,
        rules: LimitRules,
        bank: Bank,
        routes: Mapping[str, Route],
        count: Callable[[str], None],
        unsent: set[str],
        own: frozenset[str] = frozenset(),
        key_of: Callable[[str], Key | None] = lambda name: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.clock = clock
        self._rules = rules
        self.bank = bank
        self._routes = routes
        self.count = count
        self._unsent = unsent
        self._own = own
        self._key_of = key_of
        self._accounts: dict[str, str] = {}
        self._periods = Periods()
        self._tariffs: dict[str, Tariff] = {}
        self._alone: dict[str, Tariff] = {}
        """Of models for themselves, whoever may stand in for them."""
        self._books: dict[tuple[Scope, str], Book] = {}
        self._seats: dict[tuple[int, str, str, str, bool], Seat] = {}
        self._whole = Book("usecase", rules.usecase, "", rules.whole) if rules.whole != NONE else None

    async def admit(self, x: Exchange) -> None:
        """Let ``x`` in, or say why not and when. Raises RateLimited, TooManyAtOnce, LimitTooSmall, BudgetSpent,
        BudgetUnavailable, PriceUnknown.
        """
        if self.admit_now(x):
            return
        seat = self._seat(x)
        try:
            visit = self._enter(x, seat, self.clock())
            if seat.tariff is not None:
                visit.promises = await self._promise(x, seat.paying, seat.tariff, visit.length)
        except ServiceError as error:
            self.count(error.code)
            raise

    def admit_now(self, x: Exchange) -> bool:
        """``admit`` where nobody has to be waited for; False, with nothing changed, where an account has to be asked.

        Raises what ``admit`` raises of rates and numbers.
        """
        seat = self._seat(x)
        if not seat.counted and not seat.paying and not seat.others:
            return True
        tariff = seat.tariff
        purses: list[Purse] = []
        cost = 0
        if seat.paying and tariff is not None and not tariff.is_free:
            if tariff.unknown:
                return False
            cost, purses = self._most(x, tariff, _allowed(x, tariff)), self._purses(x, seat.paying)
            for purse in purses:
                if purse.free < cost:
                    return False
        try:
            visit = self._enter(x, seat, self.clock())
        except ServiceError as error:
            self.count(error.code)
            raise
        if purses:
            visit.promises = self._set_aside(purses, cost)
        return True

    def _enter(self, x: Exchange, seat: Seat, now: int) -> Visit:
        """Count ``x`` where it counts."""
        visit = Visit(self, seat.counted, seat.tariff, now)
        if seat.tariff is not None:
            visit.length = _allowed(x, seat.tariff)
        if seat.counted:
            visit.estimate = _expected_tokens(x, seat.tariff, visit.length)
            visit.headers = self._take(x, seat.counted, visit.estimate, now)
            x.headers += visit.headers
        x.afterwards.append(visit)
        if seat.others:
            x.enter = functools.partial(self._enter_model, visit)
        return visit

    async def _enter_model(self, visit: Visit, x: Exchange, route: Route) -> None:
        """Let ``x``, which was let in, come to a model it does not name. Raises as ``admit`` does."""
        book = self._book("model", route.name, "") if route.name != x.body["model"] else None
        if book is None:
            return
        tariff = self._alone.get(route.name)
        if tariff is None:
            tariff = self._alone[route.name] = Tariff(route, {}, self._own)
        length, now = _allowed(x, tariff), self.clock()
        estimate = _expected_tokens(x, tariff, length)
        try:
            self._take(x, (book,), estimate, now)
            stay = Stay(route.name, book, estimate, tariff)
            visit.stays.append(stay)
            if book.pays and not tariff.is_free:
                stay.promises = await self._promise(x, (book,), tariff, length)
        except ServiceError as error:
            visit.refusal = error
            raise
        told = tuple(each for each in x.headers if each not in visit.headers)
        visit.headers = headers.of([*visit.books, *(each.book for each in visit.stays)], now)
        x.headers = told + visit.headers

    # --- whose limits -----------------------------------------------------------------------------------------------

    def _seat(self, x: Exchange) -> Seat:
        """Where ``x`` counts and who pays for it; found once for all requests of one caller to one model."""
        principal, model, context = x.principal or NOBODY, x.body["model"], x.context
        payer, inner = context.payer, bool(context.parent) and context.channel == "api"
        place = (id(principal), x.subject, model, payer, inner)
        seat = self._seats.get(place)
        known = seat is not None and seat.principal is principal
        if seat is not None and known and (seat.key is None or seat.key.source is principal.limits):
            return seat
        counted, paying = self._find_books(principal, x.subject, model, payer, inner=inner)
        key = self._books.get(("key", principal.account)) if principal.account else None
        seat = Seat(principal, key, tuple(counted), tuple(paying), self._tariff(model), self._may_lead_on(model))
        if not payer:  # a payer's key may yet come to be known
            if len(self._seats) >= MOST_SEATS:
                self._seats.clear()
            self._seats[place] = seat
        return seat

    def _find_books(
        self, principal: Principal, subject: str, model: str, payer: str, *, inner: bool
    ) -> tuple[list[Book], list[Book]]:
        """(books the request counts in, books that pay for it).

        A request counts where it comes in and is paid for where a model is called: the calls an assistant makes for a
        request of the API (``inner``) count for their model only.
        """
        scopes = self._rules.scopes
        own: list[Book | None] = []
        paying = [self._whole]
        if principal.account and (principal.limits != NONE or "key" in scopes):
            own.append(self._key(principal))
        elif payer:
            paying.append(self._payer(payer))
        if "tenant" in scopes:
            own.append(self._book("tenant", principal.tenant, principal.tenant))
        if "user" in scopes and subject:
            own.append(self._user(subject, principal.tenant))
        models = [self._book("model", model, "")] if "model" in scopes and model in self._routes else []
        counted = [book for book in (*(own if not inner else ()), *models) if book is not None]
        return counted, [book for book in (*paying, *own, *models) if book is not None and book.pays]

    def _key(self, principal: Principal) -> Book:
        name = principal.account
        book = self._books.get(("key", name))
        if book is None:
            limits = tightest((principal.limits, self._rules.of("key", name)))
            book = self._books["key", name] = Book("key", name, principal.tenant, limits)
            book.source = principal.limits
        elif book.source is not principal.limits:
            book.source = principal.limits
            limits = tightest((principal.limits, self._rules.of("key", name)))
            if limits != book.limits:
                book.rule(limits)
        return book

    def _payer(self, name: str) -> Book | None:
        """The book of the key (its id, or its account) on whose behalf something asks that is not the key itself."""
        if ("key", name) not in self._books and name not in self._accounts:
            key = self._key_of(name)
            self._accounts[name] = key.origin if key is not None else ""
            if key is not None and ("key", key.origin) not in self._books:
                limits = tightest((key.limits, self._rules.of("key", key.origin)))
                self._books["key", key.origin] = Book("key", key.origin, key.tenant, limits)
        return self._books.get(("key", self._accounts.get(name, name)))

    def _book(self, scope: Scope, name: str, tenant: str) -> Book | None:
        book = self._books.get((scope, name))
        if book is None:
            book = self._books[scope, name] = Book(scope, name, tenant, self._rules.of(scope, name))
        return book if book.limits != NONE else None

    def _user(self, subject: str, tenant: str) -> Book | None:
        if ("user", subject) not in self._books and len(self._books) >= MOST_BOOKS:
            self.sweep()
            if len(self._books) >= MOST_BOOKS:
                return self._book("user", OTHERS, "")
        return self._book("user", subject, tenant)

    def sweep(self) -> None:
        """Forget who has not asked for anything lately."""
        now = self.clock()
        self._books = {name: book for name, book in self._books.items() if not book.is_idle(now)}
        self._accounts.clear()
        self._seats.clear()

    def _tariff(self, name: str) -> Tariff | None:
        tariff = self._tariffs.get(name)
        if tariff is None and (route := self._routes.get(name)) is not None:
            tariff = self._tariffs[name] = Tariff(route, self._routes, self._own)
        return tariff

    def _may_lead_on(self, name: str) -> bool:
        """Whether a request for ``name`` may come to another model that has limits of its own."""
        route = self._routes.get(name)
        if route is None or "model" not in self._rules.scopes:
            return False
        others = set(able_for(route, self._routes)) - {name}
        return any(self._rules.of("model", other) != NONE for other in others)

    # --- rates and numbers ------------------------------------------------------------------------------------------

    def _take(self, x: Exchange, books: Sequence[Book], estimate: int, now: int) -> headers.Headers:
        """Count ``x`` in all ``books`` or, where one of them refuses, in none. Returns what tells how much is left."""
        taken: list[tuple[Meter, int]] = []
        requests = tokens = None
        fewest = least = _MANY
        for book in books:
            most = book.limits.concurrent
            fits = most is None or book.open < most
            if fits and (meter := book.requests) is not None:
                left = meter.take(1, now)
                if left < 0:
                    fits = False
                else:
                    taken.append((meter, 1))
                    if left < fewest:
                        fewest, requests = left, meter
            if fits and (meter := book.tokens) is not None:
                left = meter.take(estimate, now)
                if left < 0:
                    fits = False
                else:
                    taken.append((meter, estimate))
                    if left < least:
                        least, tokens = left, meter
            if not fits:
                for meter, units in taken:
                    meter.correct(-units)
                self._refuse(x, books, estimate, now)
        for book in books:
            book.open += 1
        return headers.told(requests, tokens, now)

    def _refuse(self, x: Exchange, books: Sequence[Book], estimate: int, now: int) -> NoReturn:
        """Say what has to be waited for longest."""
        wait, late = 0, None
        for book in books:
            most = book.limits.concurrent
            if most is not None and book.open >= most:
                retry = max(1, round(book.seconds / most))
                raise TooManyAtOnce(whose=_whose(book), limit=most, retry_after=retry)
            if (meter := book.requests) is not None and (each := meter.wait_ns(1, now)) > wait:
                wait, late = each, (book, meter.per_minute, "requests")
            if (meter := book.tokens) is not None and (each := meter.wait_ns(estimate, now)):
                if each < 0:
                    raise LimitTooSmall(whose=_whose(book), limit=meter.per_minute, needed=estimate)
                if each > wait:
                    wait, late = each, (book, meter.per_minute, "tokens")
        assert late is not None  # something did not fit
        x.headers += headers.of(books, now)
        seconds = -(-wait // _SECONDS)
        raise RateLimited(whose=_whose(late[0]), limit=late[1], what=late[2], retry_after=seconds)

    # --- money ------------------------------------------------------------------------------------------------------

    async def _promise(
        self, x: Exchange, books: Sequence[Book], tariff: Tariff, length: int | None
    ) -> tuple[Promise, ...]:
        """The most ``x`` can cost, set aside by all ``books``. Raises PriceUnknown, BudgetSpent, BudgetUnavailable."""
        if tariff.unknown:
            raise PriceUnknown(model=" and ".join(tariff.unknown), line=PRICE_LINE)
        cost, purses = self._most(x, tariff, length), self._purses(x, books)
        if min(purse.free for purse in purses) < cost:
            await self.bank.fill(purses, cost)
            for purse in purses:
                if not purse.may(cost):
                    raise self._spent(x, purse, cost)
        return self._set_aside(purses, cost)

    def _purses(self, x: Exchange, books: Sequence[Book]) -> list[Purse]:
        self._periods.turn(x.time)
        if len(books) == 1:
            return books[0].purses(self.bank, self._rules.usecase, self._periods)
        return [purse for book in books for purse in book.purses(self.bank, self._rules.usecase, self._periods)]

    def _set_aside(self, purses: Sequence[Purse], cost: int) -> tuple[Promise, ...]:
        promises = tuple([purse.promise(cost) for purse in purses])
        for purse in purses:
            self.bank.prepare(purse, cost)
        return promises

    def _most(self, x: Exchange, tariff: Tariff, length: int | None) -> int:
        """The most ``x`` can cost. A token has at least one byte; an answer of no stated length is given one."""
        read = size_of(x) + _beyond_bytes(x.body)
        hedged = 1 + (tariff.hedges and not x.stream)  # what a second try reads is paid, too
        if x.operation == "embedding" or not tariff.output:
            return -int(-hedged * read * tariff.input // 1)
        if length is None:
            length = self._rules.answer_tokens
            x.sent = {**x.sent, "max_completion_tokens" if x.operation == "chat" else "max_tokens": length}
        written = length * _answers(x.body)
        if tariff.repairs and _is_checked(x.body):  # asked again with what it said
            read, written = 2 * read + length + COMPLAINT_TOKENS, 2 * written
        return -int(-(hedged * read * tariff.input + written * tariff.output) // 1)

    def _spent(self, x: Exchange, purse: Purse, cost: int) -> BudgetSpent:
        held = purse.left >= cost  # by requests that may turn out cheaper, or by processes that may give it back
        retry = 2 if held else max(1, -(-(purse.ends - x.time) // 1_000_000))
        if not held:
            x.headers += ((b"x-should-retry", b"false"),)
        account = purse.account
        whose = {"usecase": "the use case"}.get(account.scope, f"this {account.scope}")
        return BudgetSpent(
            whose=whose, period=account.period, limit=f"{purse.limit / 1e9:g}", left=f"{purse.left / 1e9:.6f}",
            needed=f"{cost / 1e9:.6f}", retry_after=retry,
        )  # fmt: skip

    def used(self, x: Exchange, visit: Visit) -> Usage:
        """What ``x`` used, as the model says; estimated where it may have worked and nobody heard how much."""
        if x.route is None or x.id in self._unsent:
            self._unsent.discard(x.id)
            return Usage()
        usage = usage_of(x)
        if x.reply is None and usage is NOTHING and isinstance(x.error, _MAY_HAVE_WORKED):
            asked, read = 1 + isinstance(x.error, AnswerUnfit), size_of(x) // BYTES_PER_TOKEN
            written = max(0, _expected_tokens(x, visit.tariff, visit.length) - read)
            usage = x.usage = Usage(asked * read, asked * written, 0, True)  # the record says the same
        return usage

    # --- in the background ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Tell the accounts what was paid, charge what dead processes held, forget who has gone; until cancelled."""
        rounds = 0
        while True:
            try:
                if rounds % RECOVER_ROUNDS == 0:
                    await self.bank.recover()
                await self.bank.report()
            except FairleadError as error:
                log.warning("Budgets: %s", error)
            if len(self._books) > MOST_BOOKS // 2:
                self.sweep()
            rounds += 1
            await asyncio.sleep(REPORT_S)

    async def aclose(self) -> None:
        """Settle with the accounts. Idempotent."""
        try:
            await self.bank.report(leaving=True)
        except FairleadError as error:
            log.error("Budgets: what is still held will be charged when this is mended. %s", error)

    def budget(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """((period, state), USD) of the use case's budgets, as they are known here; for metrics."""
        self._periods.turn(now_us())
        purses = self._whole.purses(self.bank, self._rules.usecase, self._periods) if self._whole is not None else []
        for purse in purses:
            period = "month" if len(purse.account.period) == len("2026-11") else "day"
            yield (period, "limit"), purse.limit / 1e9
            yield (period, "spent"), (purse.seen_paid + purse.paid) / 1e9
            yield (period, "reserved"), max(0, purse.seen_held - purse.paid) / 1e9
            yield (period, "left"), purse.left / 1e9


def _whose(book: Book) -> str:
    return f"the model {book.name}" if book.scope == "model" else f"this {book.scope}"


def _expected_tokens(x: Exchange, tariff: Tariff | None, allowed: int | None) -> int:
    """What a request will probably use, by the answers seen so far and the longest it allows."""
    read = size_of(x) // BYTES_PER_TOKEN
    if tariff is None or x.operation == "embedding":
        return read
    length = tariff.written if allowed is None else min(allowed, tariff.written)
    return read + round(length) * _answers(x.body)


def _allowed(x: Exchange, tariff: Tariff) -> int | None:
    """The longest answer ``x`` allows, in tokens; None where nobody says."""
    return _length_of(x.body) or tariff.default_output


def _length_of(body: Mapping[str, Any]) -> int | None:
    return body.get("max_completion_tokens") or body.get("max_tokens") or None


def _is_checked(body: Mapping[str, Any]) -> bool:
    """Whether an answer, or a call of a tool, must fit a schema."""
    functions = [tool.get("function") for tool in body.get("tools") or () if isinstance(tool, dict)]
    strict = any(isinstance(function, dict) and function.get("strict") is True for function in functions)
    return strict or (body.get("response_format") or {}).get("type") == "json_schema"


def _answers(body: Mapping[str, Any]) -> int:
    return max(body.get("n") or 1, body.get("best_of") or 1)


def _beyond_bytes(body: Mapping[str, Any]) -> int:
    """Tokens that bytes do not bound: what a template adds, and images (whose bytes, if they came along, count too)."""
    messages = body.get("messages") or ()
    tokens = MESSAGE_TOKENS * (len(messages) + 1)
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") == "image_url":
                tokens += IMAGE_TOKENS - _bytes_along(part.get("image_url"))
    return tokens


def _bytes_along(image: Any) -> int:
    """The length of an image that is in the body itself."""
    url = image.get("url") if isinstance(image, dict) else image
    return len(url) if isinstance(url, str) and url.startswith("data:") else 0
