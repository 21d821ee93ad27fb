"""The shop's database: a change with a key happens once, a refused one not at all, and every difference is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.tau2_retail import rules
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.rules import Change, Refused
from tests.tau2.retail_data import ADA, BEN, content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Database.create(tmp_path / "shop.sqlite", content())
    return tmp_path / "shop.sqlite"


@pytest.fixture
def shop(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


def cancel(database: Database) -> Change:
    return rules.cancel(database, BEN, "#W3", "no longer needed")


def test_a_change_with_a_key_happens_once(shop: Database) -> None:
    said = shop.change("k1", cancel)
    after = shop.digest()
    assert shop.change("k1", cancel) == said
    assert shop.digest() == after
    with pytest.raises(Refused, match="is cancelled"):
        shop.change("k2", cancel)


def test_two_at_once_make_one_change(path: Path) -> None:
    said: list[str] = []
    barrier = threading.Barrier(4)

    def attempt() -> None:
        database = Database(path)
        barrier.wait()
        said.append(database.change("same", cancel))
        database.close()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 4
    assert len(set(said)) == 1
    database = Database(path)
    found = database.order("#W3")
    database.close()
    assert found is not None
    assert len(found["payment_history"]) == 2, "one payment, one refund"


def test_a_refused_change_leaves_nothing_behind(shop: Database) -> None:
    before = shop.digest()

    def half(database: Database) -> Change:
        cancel(database)
        raise Refused("no")

    with pytest.raises(Refused):
        shop.change("k1", half)
    assert shop.digest() == before
    shop.change("k1", cancel)
    assert shop.digest() != before


def test_one_conversation_helps_one_customer(shop: Database) -> None:
    shop.change("k1", cancel, conversation="c1", customer=BEN)
    with pytest.raises(Refused, match="only help one customer"):
        shop.change(
            "k2", lambda each: rules.cancel(each, ADA, "#W1", "no longer needed"), conversation="c1", customer=ADA
        )
    shop.change("k2", lambda each: rules.cancel(each, ADA, "#W1", "no longer needed"), conversation="c2", customer=ADA)


def test_the_digest_is_of_the_content_alone(shop: Database, tmp_path: Path) -> None:
    turned = {kind: dict(reversed(documents.items())) for kind, documents in content().items()}
    turned["orders"]["#W1"] = dict(reversed(turned["orders"]["#W1"].items()))
    Database.create(tmp_path / "turned.sqlite", turned)
    other = Database(tmp_path / "turned.sqlite")
    assert other.digest() == shop.digest()
    assert other.differences(shop) == []
    other.change("", cancel)
    assert other.digest() != shop.digest()
    assert other.differences(shop) == [
        "#W3: cancel_reason, payment_history, status",
        "ben_lake_22: payment_methods",
    ]
    Database.restore(tmp_path / "again.sqlite", tmp_path / "turned.sqlite")
    other.close()


def test_calls_are_written_down_in_order(shop: Database) -> None:
    shop.note("calculate", {"expression": "1 + 1"})
    shop.note("cancel_pending_order", {"order_id": "#W3"}, key="k", customer=BEN, refused="no")
    assert [(call["tool"], call["key"], call["customer"], call["refused"]) for call in shop.calls()] == [
        ("calculate", "", "", None),
        ("cancel_pending_order", "k", BEN, "no"),
    ]
    assert shop.calls()[1]["arguments"] == {"order_id": "#W3"}
