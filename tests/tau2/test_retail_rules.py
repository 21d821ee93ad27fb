"""What the retail shop's policy allows: each rule, what it refuses, and where the money goes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tau2_retail import rules
from benchmarks.tau2_retail.rules import Change, Refused
from tests.tau2.retail_data import ADA, BEN, CY, LAMP, address, content


class Shop:
    """Documents in memory."""

    def __init__(self) -> None:
        self.content = content()

    def order(self, order_id: str) -> Any:
        return copy.deepcopy(self.content["orders"].get(order_id))

    def user(self, user_id: str) -> Any:
        return copy.deepcopy(self.content["users"].get(user_id))

    def product(self, product_id: str) -> Any:
        return copy.deepcopy(self.content["products"].get(product_id))

    def take(self, change: Change) -> None:
        if change.order is not None:
            self.content["orders"][change.order["order_id"]] = change.order
        if change.user is not None:
            self.content["users"][change.user["user_id"]] = change.user


def test_a_cancelled_order_is_paid_back_to_where_it_came_from() -> None:
    shop = Shop()
    change = rules.cancel(shop, BEN, "w3", "no longer needed")
    assert change.order is not None
    assert change.user is not None
    assert change.order["status"] == "cancelled"
    assert change.order["payment_history"][1] == {
        "transaction_type": "refund", "amount": 55.25, "payment_method_id": "gift_card_2",
    }  # fmt: skip
    assert change.user["payment_methods"]["gift_card_2"]["balance"] == 155.25
    assert "$55.25 will go back to gift_card_2 at once" in change.done
    assert shop.content == content(), "planning a change changes nothing"


def swap(shop: Shop, **other: Any) -> Change:
    told: dict[str, Any] = {
        "order_id": "#W1", "items": ["201"], "new_items": ["202"], "method": "credit_card_11", **other,
    }  # fmt: skip
    return rules.modify_items(shop, told.pop("customer", ADA), **told)


REFUSALS: list[tuple[str, Callable[[Shop], Change]]] = [
    ("two reasons only", lambda shop: rules.cancel(shop, ADA, "#W1", "too expensive")),
    ("Only a pending order", lambda shop: rules.cancel(shop, ADA, "#W2", "no longer needed")),
    ("Only a pending order", lambda shop: rules.cancel(shop, ADA, "#W5", "no longer needed")),
    ("cannot find an order", lambda shop: rules.cancel(shop, ADA, "#W3", "no longer needed")),
    ("cannot find an order", lambda shop: rules.cancel(shop, ADA, "#W99", "no longer needed")),
    ("cannot find an order", lambda shop: rules.modify_address(shop, BEN, "#W1", address("x", "1"))),
    ("own profile", lambda shop: rules.modify_user(shop, ADA, BEN, address("x", "1"))),
    ("own profile", lambda shop: rules.modify_user(shop, "nobody", "nobody", address("x", "1"))),
    ("no Kettle", lambda shop: swap(shop, new_items=["101"])),
    ("not available", lambda shop: swap(shop, items=["101"], new_items=["104"])),
    ("must be another one", lambda shop: swap(shop, new_items=["201"])),
    ("is not in order", lambda shop: swap(shop, items=["103"], new_items=["101"])),
    ("only 1 times", lambda shop: swap(shop, items=["201", "201"], new_items=["202", "202"])),
    ("needs one new item", lambda shop: swap(shop, new_items=["202", "202"])),
    ("which items", lambda shop: swap(shop, items=[], new_items=[])),
    ("not in your profile", lambda shop: swap(shop, method="gift_card_2")),
    ("$10.00, which is less than $10.75", lambda shop: swap(shop, method="gift_card_1")),
    ("Only a delivered order", lambda shop: rules.return_items(shop, ADA, "#W1", ["101"], "credit_card_11")),
    ("not in your profile", lambda shop: rules.return_items(shop, ADA, "#W2", ["101"], "credit_card_33")),
    ("another one than the first", lambda shop: rules.modify_payment(shop, ADA, "#W1", "credit_card_11")),
    ("which is less than", lambda shop: rules.modify_payment(shop, ADA, "#W1", "gift_card_1")),
]


@pytest.mark.parametrize(("words", "attempt"), REFUSALS)
def test_what_the_policy_does_not_allow_is_refused(words: str, attempt: Callable[[Shop], Change]) -> None:
    with pytest.raises(Refused, match=words.replace("$", r"\$")):
        attempt(Shop())


def test_a_refund_goes_to_the_first_payment_or_a_gift_card_only() -> None:
    shop = Shop()
    shop.content["users"][CY]["payment_methods"]["paypal_9"] = {"source": "paypal", "id": "paypal_9"}
    shop.content["users"][CY]["payment_methods"]["gift_card_9"] = {
        "source": "gift_card", "id": "gift_card_9", "balance": 0.0,
    }  # fmt: skip
    with pytest.raises(Refused, match="the way the order was paid"):
        rules.return_items(shop, CY, "#W4", ["202"], "paypal_9")
    for method in ("gift_card_9", "credit_card_33"):
        change = rules.return_items(shop, CY, "#W4", ["202"], method)
        assert change.order is not None
        assert change.order["return_payment_method_id"] == method


def test_items_can_be_changed_once_and_then_nothing_more() -> None:
    shop = Shop()
    shop.take(swap(shop))
    attempts: list[Callable[[], Change]] = [
        lambda: swap(shop, items=["202"], new_items=["201"]),
        lambda: rules.cancel(shop, ADA, "#W1", "no longer needed"),
        lambda: rules.modify_address(shop, ADA, "#W1", address("x", "1")),
    ]
    for attempt in attempts:
        with pytest.raises(Refused, match="changed already"):
            attempt()


def test_a_delivered_order_is_exchanged_or_returned_once() -> None:
    shop = Shop()
    shop.take(rules.exchange_items(shop, ADA, "#W2", ["101"], ["103"], "credit_card_11"))
    with pytest.raises(Refused, match="exchange requested"):
        rules.return_items(shop, ADA, "#W2", ["101"], "credit_card_11")


def test_the_order_in_which_items_are_named_does_not_matter() -> None:
    one = rules.exchange_items(Shop(), ADA, "#W2", ["101", "101"], ["102", "103"], "credit_card_11")
    two = rules.exchange_items(Shop(), ADA, "#W2", ["101", "101"], ["103", "102"], "credit_card_11")
    assert one.order == two.order


@given(
    new=st.sampled_from(["102", "103"]),
    method=st.sampled_from(["credit_card_11", "gift_card_1"]),
    balance=st.floats(0, 500).map(lambda value: round(value, 2)),
)
def test_money_is_neither_made_nor_lost(new: str, method: str, balance: float) -> None:
    shop = Shop()
    card = shop.content["users"][ADA]["payment_methods"]["gift_card_1"]
    card["balance"] = balance
    costs = LAMP["variants"][new]["price"] - 40.5  # type: ignore[index]
    if method == "gift_card_1" and round(costs, 2) > balance:
        with pytest.raises(Refused, match="gift card holds"):
            swap(shop, items=["101"], new_items=[new], method=method)
        return
    change = swap(shop, items=["101"], new_items=[new], method=method)
    assert change.order is not None
    assert change.user is not None
    booked = {"payment": 0.0, "refund": 0.0}
    for each in change.order["payment_history"]:
        booked[each["transaction_type"]] += each["amount"]
        assert each["amount"] > 0
    worth = sum(item["price"] for item in change.order["items"])
    assert booked["payment"] - booked["refund"] == pytest.approx(worth)
    spent = balance - change.user["payment_methods"]["gift_card_1"]["balance"]
    assert spent == pytest.approx(costs if method == "gift_card_1" else 0.0)


def test_another_way_to_pay_moves_the_whole_amount() -> None:
    shop = Shop()
    shop.content["users"][ADA]["payment_methods"]["gift_card_1"]["balance"] = 70.0
    change = rules.modify_payment(shop, ADA, "#W1", "gift_card_1")
    assert change.order is not None
    assert change.user is not None
    assert [(each["transaction_type"], each["amount"]) for each in change.order["payment_history"]] == [
        ("payment", 65.5), ("payment", 65.5), ("refund", 65.5),
    ]  # fmt: skip
    assert change.user["payment_methods"]["gift_card_1"]["balance"] == 4.5
    shop.take(change)
    with pytest.raises(Refused, match="changed before"):
        rules.modify_payment(shop, ADA, "#W1", "credit_card_11")
