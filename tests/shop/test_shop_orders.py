"""The order database: the same on every machine, consistent, and nobody in it exists."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from benchmarks.shop_questions import DAY
from tests.shop.shop_modules import SHOP, shop_module

PHONES = (r"\+49 171 39200\d\d", r"\+44 7700 900\d{3}", r"\+33 6 39 98 \d\d \d\d", r"\+353 20 91\d \d{4}", "")


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("orders") / "orders.sqlite"
    shop_module("make_orders").main(path, DAY)
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def test_two_runs_make_the_same_database(orders: sqlite3.Connection, tmp_path: Path) -> None:
    shop_module("make_orders").main(tmp_path / "again.sqlite", DAY)
    with closing(sqlite3.connect(tmp_path / "again.sqlite")) as again:
        assert list(again.iterdump()) == list(orders.iterdump())


@pytest.mark.parametrize("today", [date(2027, 3, 14), date(2028, 2, 29), date(2027, 1, 1)])
def test_orders_as_of_another_day_are_the_same_but_for_their_dates(
    orders: sqlite3.Connection, tmp_path: Path, today: date
) -> None:
    shop_module("make_orders").main(tmp_path / "now.sqlite", today)
    what = "SELECT id, customer, status, service, total_cents FROM orders ORDER BY id"
    with closing(sqlite3.connect(tmp_path / "now.sqlite")) as now:
        assert now.execute(what).fetchall() == orders.execute(what).fetchall()
        assert now.execute("SELECT max(date(placed)) FROM orders").fetchone() == (today.isoformat(),)
        late = now.execute(
            "SELECT id FROM orders WHERE status IN ('delivered', 'returned') AND delivered > ?", (str(today),)
        )
        assert late.fetchall() == []
        due = now.execute("SELECT DISTINCT expected FROM orders WHERE status = 'out for delivery'").fetchall()
        assert due == [(today.isoformat(),)]


def test_money_adds_up(orders: sqlite3.Connection) -> None:
    wrong = orders.execute(
        "SELECT id FROM orders WHERE total_cents != items_cents + delivery_cents - discount_cents OR items_cents != "
        "(SELECT sum(quantity * price_cents) FROM items WHERE order_id = orders.id)"
    ).fetchall()
    assert wrong == []
    assert orders.execute("SELECT count(*), min(total_cents) > 0 FROM orders").fetchone() == (300, 1)


def test_dates_follow_each_other_and_none_lies_after_the_fixed_day(orders: sqlite3.Connection) -> None:
    assert (
        orders.execute("SELECT id FROM orders WHERE delivered > '2026-11-20' OR placed > '2026-11-21'").fetchall() == []
    )
    assert orders.execute("SELECT id FROM orders WHERE expected < date(placed)").fetchall() == []
    assert (
        orders.execute(
            "SELECT id FROM orders WHERE (delivered IS NULL) = (status IN ('delivered', 'returned'))"
        ).fetchall()
        == []
    )
    assert (
        orders.execute(
            "SELECT id FROM orders WHERE (tracking = '') = (status NOT IN ('received', 'packed', 'cancelled'))"
        ).fetchall()
        == []
    )
    first = orders.execute("SELECT order_id, min(time) FROM events GROUP BY order_id").fetchall()
    assert dict(first) == dict(orders.execute("SELECT id, placed FROM orders").fetchall())


def test_rules_of_the_pages_hold_in_the_orders(orders: sqlite3.Connection) -> None:
    joined = "FROM orders JOIN customers ON customers.id = orders.customer"
    assert (
        orders.execute(
            f"SELECT orders.id {joined} WHERE payment = 'invoice' AND country NOT IN ('Germany', 'Austria')"
        ).fetchall()
        == []
    )
    assert orders.execute("SELECT id FROM orders WHERE payment = 'invoice' AND items_cents > 50000").fetchall() == []
    canisters = f"SELECT orders.id {joined} JOIN items ON items.order_id = orders.id WHERE article LIKE 'Gas%'"
    assert orders.execute(f"{canisters} AND (country != 'Germany' OR service = 'express')").fetchall() == []
    assert (
        orders.execute(f"SELECT orders.id {joined} WHERE country = 'Switzerland' AND service = 'express'").fetchall()
        == []
    )
    free = "service = 'standard' AND delivery_cents > 0 AND country = 'Germany'"
    assert (
        orders.execute(
            f"SELECT orders.id {joined} WHERE {free} AND (items_cents >= 6000 OR level IN ('Ember', 'Blaze'))"
        ).fetchall()
        == []
    )


def test_nobody_in_it_exists(orders: sqlite3.Connection) -> None:
    customers = orders.execute("SELECT name, email, phone FROM customers").fetchall()
    assert len(customers) == len({email for _, email, _ in customers}) == 160
    for name, email, phone in customers:
        assert re.fullmatch(rf"{re.escape(name.lower().replace(' ', '.'))}@example\.(com|org|net)", email)
        assert any(re.fullmatch(pattern, phone) for pattern in PHONES), phone


def test_order_numbers_are_scattered(orders: sqlite3.Connection) -> None:
    numbers = sorted(int(identifier[3:]) for (identifier,) in orders.execute("SELECT id FROM orders"))
    assert all(re.fullmatch(r"TT-\d{6}", identifier) for (identifier,) in orders.execute("SELECT id FROM orders"))
    assert sum(b - a == 1 for a, b in itertools.pairwise(numbers)) <= 2


def test_the_orders_the_readme_names_are_as_it_says(orders: sqlite3.Connection) -> None:
    readme = (SHOP / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (TT-\d{6}) \| (\S+) \| ([a-z ]+) \|$", readme, re.MULTILINE)
    assert len(named) == 6
    for identifier, email, status in named:
        query = "SELECT email, status FROM orders JOIN customers ON customers.id = customer WHERE orders.id = ?"
        assert orders.execute(query, (identifier,)).fetchone() == (email, status)
