"""Which limits hold for whom: what fairlead.yaml says of keys, users, tenants, models, and a key of itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Final

import msgspec

from fairlead.records import Limits
from fairlead.spec import Limit, UseCase
from fairlead.store.ledger import Scope

NONE: Final = Limits()


class LimitRules:
    """The limits of one use case."""

    def __init__(self, usecase: UseCase) -> None:
        budget = usecase.budget
        self.usecase = usecase.name
        self.answer_tokens = budget.answer_tokens
        self.whole = Limits(nanos_per_day=_nanos(budget.per_day_usd), nanos_per_month=_nanos(budget.per_month_usd))
        self._limits = usecase.limits

    @cached_property
    def scopes(self) -> frozenset[str]:
        """The scopes that fairlead.yaml says anything of."""
        return frozenset(limit.per for limit in self._limits)

    def of(self, scope: Scope, name: str) -> Limits:
        """The limits of one key, user, tenant or model; the tightest where several hold."""
        return tightest(_read(limit) for limit in self._limits if limit.per == scope and limit.fits(name))


def tightest(limits: Iterable[Limits]) -> Limits:
    """The smallest value of each limit."""
    found = NONE
    for each in limits:
        changes = {}
        for name in Limits.__struct_fields__:
            value, known = getattr(each, name), getattr(found, name)
            if value is not None and (known is None or value < known):
                changes[name] = value
        found = msgspec.structs.replace(found, **changes)
    return found


def _read(limit: Limit) -> Limits:
    return Limits(
        requests_per_minute=limit.requests_per_minute,
        tokens_per_minute=limit.tokens_per_minute,
        concurrent=limit.concurrent,
        nanos_per_day=_nanos(limit.usd_per_day),
        nanos_per_month=_nanos(limit.usd_per_month),
    )


def _nanos(usd: float | None) -> int | None:
    return None if usd is None else round(usd * 1e9)
