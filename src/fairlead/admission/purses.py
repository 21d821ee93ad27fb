"""Money of one budget that this process holds: promised to requests without asking anybody, paid for in batches.

A request is promised the most it can cost before it begins, and pays what it did cost. What a purse holds was reserved
in the ledger before (``Accounts``), so all processes together never promise more than the budget has. When what is left
does not cover a request any more, one may still go on it at a time: so a budget is used to its end, and overspent by
less than one request for each process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from fairlead.errors import BudgetUnavailable, StoreError
from fairlead.store.ledger import Account, Change, Granted

BLOCKS: Final = 64
"""A budget is taken in blocks of a 64th of it: so much is charged too much at most when a process is killed."""
DRY_S: Final = 1.0
"""So long an account that had not enough is not asked again: others give back what they do not need."""
IDLE_TICKS: Final = 5
"""Reports without a payment after which a purse gives back what it holds."""

log = logging.getLogger(__name__)


class Accounts(Protocol):
    """Where budgets are kept; ``store.ledger`` is one."""

    def change(self, changes: Sequence[Change]) -> list[Granted]:
        """Do all changes or none."""
        ...

    def recover(self) -> int:
        """Charge what dead processes held."""
        ...


class Purse:
    """One account in this process. ``free`` may be promised; ``paid`` is not reported yet."""

    __slots__ = (
        "account",
        "dry_until",
        "ends",
        "free",
        "idle",
        "limit",
        "paid",
        "promised",
        "requests",
        "risked",
        "seen_held",
        "seen_paid",
        "wanted",
    )

    def __init__(self, account: Account, limit: int, ends: int) -> None:
        self.account = account
        self.limit = limit
        self.ends = ends
        self.free = self.promised = self.paid = self.requests = self.wanted = 0
        self.risked = False
        self.dry_until = 0.0
        self.idle = 0
        self.seen_paid = self.seen_held = 0

    @property
    def block(self) -> int:
        """How much is taken from the account at a time."""
        return max(1, self.limit // BLOCKS)

    @property
    def left(self) -> int:
        """What all processes together can still pay, as far as it is known here."""
        return max(0, self.limit - self.seen_paid - self.paid)

    def may(self, cost: int) -> bool:
        """Whether a request of at most ``cost`` can be promised its money now."""
        return self.free >= cost or (self.free > 0 and not self.risked)

    def promise(self, cost: int) -> Promise:
        """Set money aside for a request; ``may`` must have said yes."""
        part = min(cost, self.free)
        self.free -= part
        self.promised += part
        risks = part < cost
        self.risked = self.risked or risks
        return Promise(self, part, risks)

    def change(self, *, leaving: bool = False) -> Change | None:
        """What to report and to ask for; None when there is nothing. Follow with ``apply``."""
        want = 0 if leaving else max(0, self.wanted - self.free)  # what was paid beyond is settled, not asked for again
        self.idle = 0 if self.requests or self.promised or want else self.idle + 1
        back = 0
        if leaving or self.idle >= IDLE_TICKS:
            back = max(0, self.free)
        elif not want and self.free > 4 * self.block:
            back = self.free - 2 * self.block
        elif want:
            want += self.block
        if not (self.requests or back or want):
            return None
        change = Change(
            account=self.account, paid=self.paid, requests=self.requests, back=back, want=want, limit=self.limit
        )
        self.paid = self.requests = 0
        self.free -= back
        return change

    def apply(self, granted: Granted) -> None:
        """Take in what came of a change."""
        self.free += granted.granted + granted.beyond
        self.seen_paid, self.seen_held = granted.paid, granted.held

    def undo(self, change: Change) -> None:
        """Take a change back that was not made."""
        self.paid += change.paid
        self.requests += change.requests
        self.free += change.back


class Promise:
    """Money set aside for one request. Kept exactly once."""

    __slots__ = ("_part", "_purse", "_risks")

    def __init__(self, purse: Purse, part: int, risks: bool) -> None:
        self._purse = purse
        self._part = part
        self._risks = risks

    def keep(self, cost: int, *, counts: bool = True) -> None:
        """Pay ``cost`` of it and free the rest. ``counts``: a model was called."""
        purse = self._purse
        purse.promised -= self._part
        purse.free += self._part - cost
        purse.paid += cost
        if counts or cost:
            purse.requests += 1
        if self._risks:
            purse.risked = False


class Bank:
    """The purses of this process, and their one way to the accounts. Used on one event loop."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._purses: dict[Account, Purse] = {}
        self._lock = asyncio.Lock()
        self._filling: asyncio.Task[None] | None = None

    def purse(self, account: Account, limit: int, ends: int) -> Purse:
        """The purse of an account, the same each time. ``ends``: when its period does, in microseconds."""
        purse = self._purses.get(account)
        if purse is None:
            purse = self._purses[account] = Purse(account, limit, ends)
        purse.limit = limit
        return purse

    async def fill(self, purses: Iterable[Purse], cost: int) -> None:
        """See to it that each purse can promise ``cost``, if its account has as much. Raises BudgetUnavailable."""
        now = time.monotonic()
        short = [purse for purse in purses if purse.free < cost and purse.dry_until <= now]
        for purse in short:
            purse.wanted += cost
        try:
            async with self._lock:
                if still := [purse for purse in short if purse.free < cost]:
                    await self._report(still)
        finally:
            for purse in short:
                purse.wanted -= cost

    def prepare(self, purse: Purse, cost: int) -> None:
        """Fill a purse that is getting empty before a request has to wait for it."""
        if purse.free < 2 * cost and self._filling is None and purse.dry_until <= time.monotonic():
            self._filling = asyncio.get_running_loop().create_task(self._prepare(purse, 4 * cost))

    async def _prepare(self, purse: Purse, cost: int) -> None:
        try:
            await self.fill([purse], cost)
        except BudgetUnavailable as error:
            log.warning("%s", error)  # whoever needs the money will be told, too
        finally:
            self._filling = None

    async def report(self, *, leaving: bool = False) -> None:
        """Report everything that was paid; give back what is not needed, all of it when ``leaving``."""
        async with self._lock:
            await self._report(list(self._purses.values()), leaving=leaving)
            self._purses = {
                account: purse
                for account, purse in self._purses.items()
                if purse.free or purse.promised or purse.requests or purse.wanted or purse.idle < IDLE_TICKS
            }

    async def recover(self) -> int:
        """Charge what dead processes held."""
        return await asyncio.to_thread(self._accounts.recover)

    async def _report(self, purses: Sequence[Purse], *, leaving: bool = False) -> None:
        asked = [(purse, change) for purse in purses if (change := purse.change(leaving=leaving)) is not None]
        if not asked:
            return
        changes = [change for _, change in asked]
        work = asyncio.get_running_loop().run_in_executor(None, self._accounts.change, changes)
        try:
            granted = await asyncio.shield(work)
        except StoreError as error:
            for purse, change in asked:
                purse.undo(change)
            raise BudgetUnavailable(detail=str(error), retry_after=1) from error
        except asyncio.CancelledError:
            # Who asked is gone, but the thread is not: what it brings must be taken in.
            work.add_done_callback(lambda done: _take_in(asked, done))
            raise
        _apply(asked, granted)


def _take_in(asked: Sequence[tuple[Purse, Change]], done: asyncio.Future[list[Granted]]) -> None:
    if done.cancelled() or done.exception() is not None:
        for purse, change in asked:
            purse.undo(change)
        return
    _apply(asked, done.result())


def _apply(asked: Sequence[tuple[Purse, Change]], granted: Sequence[Granted]) -> None:
    for (purse, change), each in zip(asked, granted, strict=True):
        purse.apply(each)
        if each.granted < change.want:
            purse.dry_until = time.monotonic() + DRY_S
