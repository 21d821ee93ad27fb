"""How every budget stands: its limit, what was paid, what is held for requests under way, and where its pace leads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fairlead.admission.books import DAY_US, Periods
from fairlead.admission.rules import LimitRules, tightest
from fairlead.records import Key
from fairlead.store.ledger import Account, Balance, Ledger, Scope


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One budget of one period, in nano-dollars.

    ``pace`` is what will have been paid at the end of the period if it goes on as it did so far; None in its first
    hundredth, which says nothing. ``label`` is what people call ``name``.
    """

    scope: Scope
    name: str
    label: str
    tenant: str
    period: str
    limit: int
    paid: int
    held: int
    left: int
    pace: int | None


def standings(
    rules: LimitRules, ledger: Ledger, keys: Sequence[Key], now: int, *, tenant: str | None = None
) -> list[Standing]:
    """The budgets of today and of this month: the use case's, then those of keys and of whoever has paid anything.

    ``tenant``: only its own and those of nobody in particular.
    """
    periods = Periods()
    periods.turn(now)
    spans = {
        periods.day: (periods.day_ends - DAY_US, periods.day_ends),
        periods.month: (periods.month_began, periods.month_ends),
    }
    paid = {balance.account: balance for balance in ledger.balances(rules.usecase, tuple(spans), tenant=tenant)}
    names = {key.origin: key for key in keys if tenant is None or key.tenant == tenant}
    accounts = dict.fromkeys(
        [*_expected(rules, [key for key in names.values() if key.revoked is None], periods), *paid]
    )
    found = []
    for account in accounts:
        limit = _limit(rules, account, names, is_day=account.period == periods.day)
        if limit is None:
            continue
        balance = paid.get(account) or Balance(account=account, paid=0, held=0)
        key = names.get(account.name) if account.scope == "key" else None
        found.append(
            Standing(
                scope=account.scope,
                name=account.name,
                label=key.name if key is not None else account.name,
                tenant=account.tenant,
                period=account.period,
                limit=limit,
                paid=balance.paid,
                held=balance.held,
                left=max(0, limit - balance.paid),
                pace=_pace(balance.paid, now, *spans[account.period]),
            )
        )
    return found


def _expected(rules: LimitRules, keys: Iterable[Key], periods: Periods) -> Iterable[Account]:
    for period in (periods.day, periods.month):
        yield Account(usecase=rules.usecase, tenant="", scope="usecase", name=rules.usecase, period=period)
    for key in keys:
        for period in (periods.day, periods.month):
            yield Account(usecase=rules.usecase, tenant=key.tenant, scope="key", name=key.origin, period=period)


def _limit(rules: LimitRules, account: Account, keys: dict[str, Key], *, is_day: bool) -> int | None:
    if account.scope == "usecase":
        limits = rules.whole
    else:
        limits = rules.of(account.scope, account.name)
        if account.scope == "key" and account.name in keys:
            limits = tightest((limits, keys[account.name].limits))
    return limits.nanos_per_day if is_day else limits.nanos_per_month


def _pace(paid: int, now: int, began: int, ends: int) -> int | None:
    elapsed, whole = now - began, ends - began
    return paid * whole // elapsed if elapsed * 100 >= whole else None
