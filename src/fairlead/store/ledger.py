"""What budgets have paid: accounts, the money each process holds of them, and an append-only ledger of both.

A process takes money in blocks (``reserve``) before any of it is promised to a request, says now and then what was paid
from them (``settle``) and gives back what it does not need (``release``). So a request needs no SQL, and all processes
together never hold more than a budget has. Whoever holds money keeps a file locked; the kernel lets go of it when the
process dies, however it dies, so no clock is asked whether somebody is still there. What a dead process held is
charged: it may have been paid already.

In every account reserved - settled - released = what is held now; ``reconcile`` proves it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from fairlead.records import new_id, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import record_of

Scope = Literal["usecase", "tenant", "key", "user", "model"]
Kind = Literal["reserve", "settle", "release"]
LOST = "held by a process that died"
BEYOND = "beyond what was reserved"
_LOCK = ".lock"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whose money: ``period`` is a day (2026-11-29) or a month (2026-11) of UTC."""

    usecase: str
    tenant: str
    scope: Scope
    name: str
    period: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a process reports and asks of an account, in nano-dollars, at once.

    ``paid`` was paid for ``requests``; ``back`` is given back; up to ``want`` more is asked for, within ``limit``.
    """

    account: Account
    paid: int = 0
    requests: int = 0
    back: int = 0
    want: int = 0
    limit: int = 0


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a Change: how much more is held, how much of ``paid`` nobody had reserved, and what stands now."""

    granted: int
    beyond: int
    paid: int
    held: int


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """One account: ``paid``, and ``held`` by all processes."""

    account: Account
    paid: int
    held: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger; never changed or deleted. ``amount`` is nano-dollars, ``requests`` what was paid for."""

    sequence: int
    time: int
    holder: str
    usecase: str
    tenant: str
    scope: Scope
    name: str
    period: str
    kind: Kind
    amount: int
    requests: int
    note: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose ledger does not add up: what the lines say is held and paid, and what the account says."""

    account: Account
    held: int
    held_by_lines: int
    held_by_holders: int
    paid: int
    paid_by_lines: int


class Ledger:
    """The accounts of one store. Thread-safe."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory
        self._handle: int | None = None
        self._holder = ""

    # --- paying -----------------------------------------------------------------------------------------------------

    def change(self, changes: Sequence[Change]) -> list[Granted]:
        """Do all ``changes`` or none, in one transaction; one answer for each.

        Waits for the disk when anything is granted, so that no money is promised that a power cut could set free.
        """
        holder, now = self._hold(), now_us()
        with self._database.write(durable=any(change.want > 0 for change in changes)) as connection:
            return [_change(connection, holder, now, change) for change in changes]

    def recover(self) -> int:
        """Charge what dead processes held; how many accounts were charged."""
        own = self._holder
        with self._database.read() as connection:
            holders = connection.execute(select(schema.holdings.c.holder).distinct()).scalars().all()
        dead = [holder for holder in holders if holder != own and not self._lives(holder)]
        if not dead:
            return 0
        now, charged = now_us(), 0
        with self._database.write(durable=True) as connection:
            for holder in dead:
                charged += _charge(connection, holder, now)
        for holder in dead:
            (self._directory / f"{holder}{_LOCK}").unlink(missing_ok=True)
        return charged

    def close(self) -> None:
        """Let go. What is still held then is charged by whoever looks next. Idempotent."""
        if self._handle is not None:
            (self._directory / f"{self._holder}{_LOCK}").unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None

    def _hold(self) -> str:
        if self._handle is None:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._holder = new_id()
            self._handle = os.open(
                self._directory / f"{self._holder}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        return self._holder

    def _lives(self, holder: str) -> bool:
        try:
            handle = os.open(self._directory / f"{holder}{_LOCK}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    # --- reading ----------------------------------------------------------------------------------------------------

    def balances(self, usecase: str, periods: Sequence[str], *, tenant: str | None = None) -> list[Balance]:
        """The accounts of ``periods`` that money was ever taken from, those that paid most first."""
        table = schema.accounts
        query = select(table).where(table.c.usecase == usecase, table.c.period.in_(periods))
        if tenant is not None:
            query = query.where(table.c.tenant.in_((tenant, "")))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.paid.desc(), table.c.scope, table.c.name)).mappings().all()
        return [Balance(account=_account(row), paid=row["paid"], held=row["held"]) for row in rows]

    def entries(self, usecase: str, *, since: int, until: int, limit: int = 1000) -> list[Entry]:
        """Lines of a time range, newest first."""
        table = schema.ledger
        query = select(table).where(table.c.usecase == usecase, table.c.time >= since, table.c.time < until)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.sequence.desc()).limit(limit)).mappings().all()
        return [record_of(Entry, row) for row in rows]

    def reconcile(self, usecase: str) -> list[Difference]:
        """Accounts that do not agree with the lines of the ledger, or with what processes hold. Empty when all do."""
        with self._database.read() as connection:
            accounts = {_account(row): row for row in connection.execute(
                select(schema.accounts).where(schema.accounts.c.usecase == usecase)
            ).mappings()}  # fmt: skip
            lines = _sums(connection, schema.ledger, usecase, schema.ledger.c.kind)
            holders = _sums(connection, schema.holdings, usecase)
        found = []
        for account in {*accounts, *(key[0] for key in lines), *(key[0] for key in holders)}:
            kinds = {kind: lines.get((account, kind), 0) for kind in ("reserve", "settle", "release")}
            row = accounts.get(account)
            difference = Difference(
                account=account,
                held=row["held"] if row else 0,
                held_by_lines=kinds["reserve"] - kinds["settle"] - kinds["release"],
                held_by_holders=holders.get((account, ""), 0),
                paid=row["paid"] if row else 0,
                paid_by_lines=kinds["settle"],
            )
            agrees = difference.held == difference.held_by_lines == difference.held_by_holders
            if not (agrees and difference.paid == difference.paid_by_lines):
                found.append(difference)
        return found


def _where(table: Any, account: Account) -> list[Any]:
    return [table.c[name] == getattr(account, name) for name in account.__struct_fields__]


def _account(row: Any) -> Account:
    return Account(**{name: row[name] for name in Account.__struct_fields__})


def _change(connection: Connection, holder: str, now: int, change: Change) -> Granted:
    account, accounts, holdings = change.account, schema.accounts, schema.holdings
    here = _where(accounts, account)
    mine = [*_where(holdings, account), holdings.c.holder == holder]
    row = connection.execute(select(accounts.c.paid, accounts.c.held).where(*here)).first()
    if row is None:
        connection.execute(accounts.insert().values(**msgspec.structs.asdict(account), paid=0, held=0))
    paid, held = (row.paid, row.held) if row is not None else (0, 0)
    own = connection.execute(select(holdings.c.amount).where(*mine)).scalar()
    have = own or 0

    def write(kind: Kind, amount: int, *, requests: int = 0, note: str = "") -> None:
        if amount or requests:
            _write(connection, holder, now, account, kind, amount, requests=requests, note=note)

    beyond = max(0, change.paid + change.back - have)
    write("reserve", beyond, note=BEYOND)
    write("settle", change.paid, requests=change.requests)
    write("release", change.back)
    taken = change.paid + change.back - beyond
    paid, held, have = paid + change.paid, held - taken, have - taken
    granted = max(0, min(change.want, change.limit - paid - held))
    write("reserve", granted)
    held, have = held + granted, have + granted
    connection.execute(update(accounts).where(*here).values(paid=paid, held=held))
    if own is None and have:
        connection.execute(holdings.insert().values(**msgspec.structs.asdict(account), holder=holder, amount=have))
    elif have:
        connection.execute(update(holdings).where(*mine).values(amount=have))
    else:
        connection.execute(delete(holdings).where(*mine))
    return Granted(granted=granted, beyond=beyond, paid=paid, held=held)


def _charge(connection: Connection, holder: str, now: int) -> int:
    accounts, holdings = schema.accounts, schema.holdings
    rows = connection.execute(select(holdings).where(holdings.c.holder == holder)).mappings().all()
    for row in rows:
        account, amount = _account(row), row["amount"]
        _write(connection, holder, now, account, "settle", amount, note=LOST)
        connection.execute(
            update(accounts)
            .where(*_where(accounts, account))
            .values(paid=accounts.c.paid + amount, held=accounts.c.held - amount)
        )
    connection.execute(delete(holdings).where(holdings.c.holder == holder))
    return len(rows)


def _write(
    connection: Connection, holder: str, now: int, account: Account, kind: Kind, amount: int, *,
    requests: int = 0, note: str = "",
) -> None:  # fmt: skip
    line = {**msgspec.structs.asdict(account), "time": now, "holder": holder, "kind": kind, "amount": amount}
    connection.execute(schema.ledger.insert().values(**line, requests=requests, note=note))


def _sums(connection: Connection, table: Any, usecase: str, *by: Any) -> dict[tuple[Account, str], int]:
    columns = [table.c[name] for name in Account.__struct_fields__]
    query = select(*columns, *by, func.sum(table.c.amount).label("total")).where(table.c.usecase == usecase)
    rows = connection.execute(query.group_by(*columns, *by)).mappings().all()
    return {(_account(row), row["kind"] if by else ""): int(row["total"]) for row in rows}
