"""Budgets over a real store: what several processes, crashes and wrong clocks can do to them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.admission import Bank
from fairlead.admission.purses import Promise, Purse
from fairlead.records import now_us
from fairlead.store import Store
from fairlead.store.database import Database
from fairlead.store.ledger import LOST, Account, Change, Ledger

DAY = Account(usecase="shop", tenant="", scope="usecase", name="shop", period="2026-11-29")
FAR = 10**18


def balance(ledger: Ledger, account: Account = DAY) -> tuple[int, int]:
    for found in ledger.balances("shop", (account.period,)):
        if found.account == account:
            return found.paid, found.held
    return 0, 0


def test_money_is_reserved_settled_and_released(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        ledger = store.ledger
        (first,) = ledger.change([Change(account=DAY, want=600, limit=1000)])
        assert (first.granted, first.held) == (600, 600)
        (second,) = ledger.change([Change(account=DAY, paid=100, requests=2, want=700, limit=1000)])
        assert (second.granted, second.paid, second.held) == (400, 100, 900)
        ledger.change([Change(account=DAY, paid=50, requests=1, back=850)])
        assert balance(ledger) == (150, 0)
        lines = [(line.kind, line.amount, line.requests) for line in ledger.entries("shop", since=0, until=FAR)]
        assert lines == [
            ("release", 850, 0), ("settle", 50, 1), ("reserve", 400, 0), ("settle", 100, 2), ("reserve", 600, 0)
        ]  # fmt: skip
        assert ledger.reconcile("shop") == []


def test_what_was_paid_beyond_is_told_and_still_adds_up(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.ledger.change([Change(account=DAY, want=100, limit=100)])
        (answer,) = store.ledger.change([Change(account=DAY, paid=130, requests=1, want=5, limit=100)])
        assert (answer.beyond, answer.granted, answer.paid, answer.held) == (30, 0, 130, 0)
        assert store.ledger.reconcile("shop") == []


def test_a_ledger_that_was_tampered_with_does_not_add_up(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.ledger.change([Change(account=DAY, want=100, limit=100)])
        with store._database.write() as connection:
            connection.exec_driver_sql("UPDATE accounts SET paid = 7")
        (difference,) = store.ledger.reconcile("shop")
        assert (difference.paid, difference.paid_by_lines, difference.held) == (7, 0, 100)


def test_accounts_are_separate(tmp_path: Path) -> None:
    other = Account(usecase="shop", tenant="acme", scope="key", name="k1", period="2026-11-29")
    with Store.open(tmp_path) as store:
        store.ledger.change([Change(account=DAY, want=100, limit=100), Change(account=other, want=30, limit=50)])
        assert balance(store.ledger) == (0, 100)
        assert balance(store.ledger, other) == (0, 30)
        assert [each.account.name for each in store.ledger.balances("shop", ("2026-11-29",), tenant="b")] == ["shop"]


async def test_a_purse_asks_for_blocks_and_returns_what_it_does_not_need(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        bank = Bank(store.ledger)
        purse = bank.purse(DAY, 64_000, FAR)
        assert not purse.may(10)
        await bank.fill([purse], 10)
        assert (purse.free, balance(store.ledger)) == (1010, (0, 1010))
        promise = purse.promise(10)
        promise.keep(4)
        assert purse.free == 1006
        await bank.report()
        assert balance(store.ledger) == (4, 1006)
        await bank.report(leaving=True)
        assert balance(store.ledger) == (4, 0)
        assert store.ledger.reconcile("shop") == []


async def test_an_idle_purse_is_emptied_and_forgotten(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        bank = Bank(store.ledger)
        purse = bank.purse(DAY, 64_000, FAR)
        await bank.fill([purse], 10)
        held = purse.promise(10)
        for _ in range(8):
            await bank.report()
        assert balance(store.ledger)[1] > 0, "a request is under way"
        held.keep(0, counts=False)
        for _ in range(8):
            await bank.report()
        assert balance(store.ledger) == (0, 0)
        assert bank.purse(DAY, 64_000, FAR) is not purse


async def test_the_last_money_goes_to_one_request_at_a_time(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        bank = Bank(store.ledger)
        purse = bank.purse(DAY, 100, FAR)
        await bank.fill([purse], 100)
        first, second = purse.promise(40), purse.promise(40)
        assert purse.may(40)
        third = purse.promise(40)  # 20 are left: this one is not covered
        assert not purse.may(1)
        first.keep(10)
        assert purse.may(30)
        assert not purse.may(31), "one at a time"
        third.keep(40)
        second.keep(40)
        assert purse.left == 10
        assert purse.may(40)
        fourth = purse.promise(40)
        assert not purse.may(1)
        fourth.keep(40)
        await bank.report(leaving=True)
        assert balance(store.ledger) == (130, 0)
        assert store.ledger.reconcile("shop") == []


class Replica:
    """A process as the ledger sees one: its own connection, its own lock, its own purses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.start()

    def start(self) -> None:
        self.database = Database(self.directory / "fairlead.db")
        self.ledger = Ledger(self.database, self.directory / "holders")
        self.bank = Bank(self.ledger)
        self.open: list[tuple[Promise, int]] = []

    def crash(self) -> int:
        """Gone without a word; what its requests under way may have cost is lost with it."""
        lost = sum(cost for _, cost in self.open)
        if self.ledger._handle is not None:
            os.close(self.ledger._handle)  # as the kernel does; the file stays
            self.ledger._handle = None
        self.database.close()
        self.start()
        return lost


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["begin"] * 5 + ["end"] * 4 + ["report", "report", "leave", "crash", "recover"]),
        st.integers(1, 60),
        st.integers(0, 100),
    ),
    max_size=50,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([1, 1, 3]), st.integers(1, 400), STEPS)
def test_no_order_of_events_overspends_by_more_than_a_request_each(
    tmp_path_factory: pytest.TempPathFactory, count: int, limit: int, steps: list[tuple[int, str, int, int]]
) -> None:
    """The bound: what all processes really spent <= the budget + one request for each of them.

    A replica that crashes and starts again is another process.
    """
    directory = tmp_path_factory.mktemp("budget")
    spent, dearest, processes = 0, 0, count

    async def run() -> None:
        nonlocal spent, dearest, processes
        replicas = [Replica(directory) for _ in range(count)]
        try:
            for which, what, most, share in steps:
                replica = replicas[which % count]
                purse = replica.bank.purse(DAY, limit, FAR)
                purse.dry_until = 0.0  # time does not pass here
                if what == "begin":
                    await replica.bank.fill([purse], most)
                    if purse.may(most):
                        dearest = max(dearest, most)
                        replica.open.append((purse.promise(most), most * share // 100))
                elif what == "end" and replica.open:
                    promise, cost = replica.open.pop(share % len(replica.open))
                    promise.keep(cost)
                    spent += cost
                elif what in ("report", "leave"):
                    await replica.bank.report(leaving=what == "leave")
                elif what == "crash":
                    spent += replica.crash()
                    processes += 1
                elif what == "recover":
                    await replica.bank.recover()
                in_flight = sum(cost for each in replicas for _, cost in each.open)
                assert spent + in_flight <= limit + processes * dearest
                assert replica.ledger.reconcile("shop") == []
            for replica in replicas:
                while replica.open:
                    promise, cost = replica.open.pop()
                    promise.keep(cost)
                    spent += cost
                await replica.bank.report(leaving=True)
            await replicas[0].bank.recover()
            paid, held = balance(replicas[0].ledger)
            assert held == 0
            # What one request cost beyond the last money is lost with a process that dies before it ends.
            assert paid + (processes - count) * dearest >= spent, "what was spent is charged, whoever died"
            assert paid <= limit + processes * dearest
            assert replicas[0].ledger.reconcile("shop") == []
        finally:
            for replica in replicas:
                replica.ledger.close()
                replica.database.close()

    asyncio.run(run())


async def test_who_leaves_overspent_holds_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, Store.open(tmp_path) as other:
        bank, elsewhere = Bank(store.ledger), Bank(other.ledger)
        theirs = elsewhere.purse(DAY, 100, FAR)
        await elsewhere.fill([theirs], 90)
        purse = bank.purse(DAY, 100, FAR)
        await bank.fill([purse], 40)
        promise = purse.promise(40)  # on the last money
        await elsewhere.report(leaving=True)  # now there would be some again
        promise.keep(40)
        await bank.report(leaving=True)
        assert balance(store.ledger) == (40, 0)
        assert store.ledger.reconcile("shop") == []


PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
from fairlead.admission import Bank
from fairlead.store import Store
from fairlead.store.ledger import Account

directory, period = Path(sys.argv[1]), sys.argv[5]
limit, cost, pause, stays = map(float, (*sys.argv[2:5], sys.argv[6]))
account = Account(usecase="shop", tenant="", scope="usecase", name="shop", period=period)

async def main():
    with Store.open(directory) as store:
        bank = Bank(store.ledger)
        for number in range(1, 100_000):
            purse = bank.purse(account, int(limit), 10**18)
            if purse.free < cost:
                await bank.fill([purse], int(cost))
            if not purse.may(int(cost)):
                break
            promise = purse.promise(int(cost))
            os.write(1, b"begun\\n")
            if number == stays:
                await asyncio.sleep(600)
            await asyncio.sleep(pause)
            promise.keep(int(cost))
            if number % 7 == 0:
                await bank.report()
        await bank.report(leaving=True)

asyncio.run(main())
"""


def start(directory: Path, limit: int, cost: int, pause: float, period: str, stays: int = 0) -> subprocess.Popen[bytes]:
    """A process that spends until nothing is left, or begins ``stays`` requests and does not end the last of them."""
    arguments = [str(directory), str(limit), str(cost), str(pause), period, str(stays)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE)


def test_a_process_killed_between_reserve_and_settle_is_charged_what_it_held(tmp_path: Path) -> None:
    limit, cost = 64_000, 500
    with Store.open(tmp_path) as store:
        process = start(tmp_path, limit, cost, 0.0, DAY.period, stays=1)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert store.ledger.recover() == 0, "it lives, and keeps what it holds"
        paid, held = balance(store.ledger)
        assert (paid, held) == (0, cost + limit // 64)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        assert store.ledger.recover() == 1
        assert balance(store.ledger) == (held, 0)
        newest = store.ledger.entries("shop", since=0, until=FAR)[0]
        assert (newest.kind, newest.amount, newest.note) == ("settle", held, LOST)
        assert store.ledger.reconcile("shop") == []
        assert store.ledger.recover() == 0


def test_processes_that_share_a_budget_and_are_killed_never_exceed_it(tmp_path: Path) -> None:
    limit, cost = 50_000, 300
    Store.open(tmp_path).close()
    running = [start(tmp_path, limit, cost, 0.002, DAY.period, stays=20)]
    began = [0, 0, 0]
    assert running[0].stdout is not None
    began[0] += bool(running[0].stdout.readline())  # while nobody else spends, so that enough is left for it
    running += [start(tmp_path, limit, cost, 0.002, DAY.period) for _ in range(2)]
    for _ in range(19):
        began[0] += bool(running[0].stdout.readline())
    assert began[0] == 20
    running[0].send_signal(signal.SIGKILL)
    for number, process in enumerate(running):
        assert process.stdout is not None
        began[number] += process.stdout.read().count(b"begun")
        process.wait(60)
        process.stdout.close()
    assert [process.returncode for process in running] == [-signal.SIGKILL, 0, 0]
    with Store.open(tmp_path) as store:
        store.ledger.recover()
        paid, held = balance(store.ledger)
        assert held == 0
        assert sum(began) * cost <= limit + 3 * cost
        assert paid <= limit + 3 * cost
        assert paid >= sum(began) * cost, "every request that began is paid for"
        # One was killed: at most its block and its request were charged without having been spent.
        assert paid - sum(began) * cost <= limit // 64 + 2 * cost
        assert store.ledger.reconcile("shop") == []


def test_clocks_that_disagree_move_money_between_days_and_make_none(tmp_path: Path) -> None:
    """One process believes that it is tomorrow: each day has its own money, and neither is exceeded."""
    limit, cost = 20_000, 300
    Store.open(tmp_path).close()
    days = ("2026-11-29", "2026-11-29", "2026-11-30")
    running = [start(tmp_path, limit, cost, 0.0, day) for day in days]
    for process in running:
        assert process.stdout is not None
        process.stdout.read()
        process.wait(60)
        process.stdout.close()
    with Store.open(tmp_path) as store:
        for day, replicas in (("2026-11-29", 2), ("2026-11-30", 1)):
            account = Account(usecase="shop", tenant="", scope="usecase", name="shop", period=day)
            paid, held = balance(store.ledger, account)
            assert limit - cost <= paid <= limit + replicas * cost
            assert held == 0
        assert store.ledger.reconcile("shop") == []


def test_budgets_that_cannot_be_read_spend_nothing(tmp_path: Path) -> None:
    from fairlead.errors import BudgetUnavailable

    async def run() -> None:
        store = Store.open(tmp_path)
        bank = Bank(store.ledger)
        purse = bank.purse(DAY, 64_000, FAR)
        await bank.fill([purse], 10)
        purse.promise(10).keep(10)
        with store._database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE accounts RENAME TO elsewhere")
        with pytest.raises(BudgetUnavailable):
            await bank.report()
        assert purse.paid == 10, "kept for the next report"
        with pytest.raises(BudgetUnavailable):
            await bank.fill([purse], 100_000)
        assert purse.may(10), "what is held already may be spent"
        with store._database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO accounts")
        await bank.report(leaving=True)
        assert balance(store.ledger) == (10, 0)
        store.close()

    asyncio.run(run())


def test_everything_can_be_shown_as_json(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.ledger.change([Change(account=DAY, want=100, limit=100)])
        (line,) = store.ledger.entries("shop", since=now_us() - 3_600_000_000, until=FAR)
    shown: dict[str, Any] = json.loads(json.dumps({name: getattr(line, name) for name in line.__struct_fields__}))
    assert shown["kind"] == "reserve"
    assert isinstance(Purse(DAY, 1, 2).left, int)
