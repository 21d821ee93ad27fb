"""What one key, user, tenant or model asks for: its meters, how many of its requests are open, its purses."""

from __future__ import annotations

import datetime
from typing import Final

from fairlead.admission.purses import Bank, Purse
from fairlead.admission.rates import Meter
from fairlead.records import Limits
from fairlead.store.ledger import Account, Scope

DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime.date(1970, 1, 1)


class Periods:
    """The day and the month of UTC a time is in; worked out once a day. Times are microseconds since the epoch."""

    __slots__ = ("_began", "day", "day_ends", "month", "month_began", "month_ends")

    def __init__(self) -> None:
        self._began = self.day_ends = self.month_began = self.month_ends = 0
        self.day = self.month = ""

    def turn(self, now: int) -> None:
        """Go to the day ``now`` is in, forward or back: clocks are set right sometimes."""
        if self._began <= now < self.day_ends:
            return
        number = now // DAY_US
        date = _EPOCH + datetime.timedelta(days=number)
        after = datetime.date(date.year + date.month // 12, date.month % 12 + 1, 1)
        self._began, self.day_ends = number * DAY_US, (number + 1) * DAY_US
        self.month_began = (date.replace(day=1) - _EPOCH).days * DAY_US
        self.month_ends = (after - _EPOCH).days * DAY_US
        self.day, self.month = date.isoformat(), f"{date:%Y-%m}"


class Book:
    """One key, user, tenant or model, or the whole use case. ``open`` are its requests in flight."""

    __slots__ = (
        "_day",
        "_month",
        "limits",
        "name",
        "open",
        "requests",
        "scope",
        "seconds",
        "source",
        "tenant",
        "tokens",
    )

    def __init__(self, scope: Scope, name: str, tenant: str, limits: Limits) -> None:
        self.scope = scope
        self.name = name
        self.tenant = tenant
        self.source = limits
        """The limits as the key has them, for telling quickly whether they are still the same."""
        self.open = 0
        self.seconds = 1.0
        """How long its requests take, lately."""
        self._day: Purse | None = None
        self._month: Purse | None = None
        self.requests: Meter | None = None
        self.tokens: Meter | None = None
        self.rule(limits)

    def rule(self, limits: Limits) -> None:
        """Put ``limits`` in force. A meter that does not change goes on; another begins full."""
        self.limits = limits
        self.requests = _meter(self.requests, limits.requests_per_minute)
        self.tokens = _meter(self.tokens, limits.tokens_per_minute)
        self._day = self._month = None

    @property
    def pays(self) -> bool:
        """Whether it has a budget."""
        return self.limits.nanos_per_day is not None or self.limits.nanos_per_month is not None

    def purses(self, bank: Bank, usecase: str, periods: Periods) -> list[Purse]:
        """Its purses of now."""
        found = []
        if (most := self.limits.nanos_per_day) is not None:
            purse = self._day
            if purse is None or purse.account.period != periods.day:
                purse = self._day = self._open(bank, usecase, periods.day, most, periods.day_ends)
            found.append(purse)
        if (most := self.limits.nanos_per_month) is not None:
            purse = self._month
            if purse is None or purse.account.period != periods.month:
                purse = self._month = self._open(bank, usecase, periods.month, most, periods.month_ends)
            found.append(purse)
        return found

    def _open(self, bank: Bank, usecase: str, period: str, most: int, ends: int) -> Purse:
        account = Account(usecase=usecase, tenant=self.tenant, scope=self.scope, name=self.name, period=period)
        return bank.purse(account, most, ends)

    def close(self, seconds: float, more_tokens: int) -> None:
        """A request that was counted has ended after ``seconds``, and used so many tokens more than was expected."""
        self.open -= 1
        self.seconds += 0.1 * (seconds - self.seconds)
        if self.tokens is not None:
            self.tokens.correct(more_tokens)

    def is_idle(self, now: int) -> bool:
        """Whether forgetting it changes nothing: no request open, every meter full. Its money is the bank's matter."""
        return (
            not self.open
            and (self.requests is None or not self.requests.full_ns(now))
            and (self.tokens is None or not self.tokens.full_ns(now))
        )


def _meter(meter: Meter | None, per_minute: int | None) -> Meter | None:
    if per_minute is None:
        return None
    return meter if meter is not None and meter.per_minute == per_minute else Meter(per_minute)
