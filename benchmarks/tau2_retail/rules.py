"""What a customer may have done to orders and profile, as the shop's policy has it. Pure: documents in, Change out.

Each function says what would change and how the customer is asked first, or raises Refused with the sentence for the
customer. Who the customer is was established before. Knows no database, no tools and no models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

Document = dict[str, Any]

REASONS: Final = ("no longer needed", "ordered by mistake")
MODIFIED: Final = "pending (item modified)"
ADDRESS: Final = ("address1", "address2", "city", "state", "country", "zip")


class Refused(Exception):
    """What the policy does not allow; the text may be read by the customer."""


class Shop(Protocol):
    """Documents by id; None for what does not exist. Callers may change what they get."""

    def order(self, order_id: str) -> Document | None:
        """An order."""
        ...

    def user(self, user_id: str) -> Document | None:
        """A customer's profile."""
        ...

    def product(self, product_id: str) -> Document | None:
        """A type of product with its variants."""
        ...


@dataclass(frozen=True)
class Change:
    """What would happen: the question before it, with what it costs, the sentence after it, and the documents then.

    Question and costs are short, so that they are read; ``rows`` have every detail.
    """

    question: str
    done: str
    rows: list[list[str]]
    costs: str = ""
    order: Document | None = None
    user: Document | None = None


def own_order(shop: Shop, customer: str, order_id: str) -> Document:
    """An order of this customer. Raises Refused, alike for one that does not exist and one of somebody else."""
    order = shop.order(normal_id(order_id))
    if order is None or order["user_id"] != customer:
        raise Refused("I cannot find an order with this number among your orders.")
    return order


def own_profile(shop: Shop, customer: str, user_id: str | None = None) -> Document:
    """The customer's own profile. Raises Refused when another one is asked for."""
    user = shop.user(customer)
    if user is None or (user_id is not None and user_id != customer):
        raise Refused("I can only help with your own profile and your own orders.")
    return user


def normal_id(order_id: str) -> str:
    """The number as the database writes it: people leave out the #."""
    order_id = order_id.strip().upper()
    return order_id if order_id.startswith("#") else f"#{order_id}"


def money(amount: float) -> str:
    """An amount with its currency."""
    return f"${amount:.2f}"


def paid(order: Document) -> float:
    """The sum of what was paid for an order."""
    return float(round(sum(each["amount"] for each in order["payment_history"] if _is_payment(each)), 2))


# --- the seven things that can be done ------------------------------------------------------------------------------


def cancel(shop: Shop, customer: str, order_id: str, reason: str) -> Change:
    """Cancel a pending order as a whole; every payment goes back to where it came from."""
    order, user = own_order(shop, customer, order_id), own_profile(shop, customer)
    _demand(order, "pending", "cancelled")
    if reason not in REASONS:
        raise Refused(f"An order can be cancelled for two reasons only: {REASONS[0]}, or {REASONS[1]}.")
    payments = [each for each in order["payment_history"] if _is_payment(each)]
    for payment in payments:
        _refund(order, user, payment["payment_method_id"], payment["amount"])
    order["status"], order["cancel_reason"] = "cancelled", reason
    back = " ".join(_back_to(each["payment_method_id"], each["amount"]) for each in payments)
    number = order["order_id"]
    return Change(
        question=f"Shall I cancel order {number} ({reason})?",
        costs=back,
        done=f"Order {number} is cancelled. {back}",
        rows=[["Order", number], ["Reason", reason], *_items(order["items"])],
        order=order, user=user,
    )  # fmt: skip


def modify_address(shop: Shop, customer: str, order_id: str, address: Document) -> Change:
    """Send a pending order somewhere else."""
    order = own_order(shop, customer, order_id)
    _demand(order, "pending", "changed")
    order["address"] = _address(address)
    number, where = order["order_id"], _line(order["address"])
    return Change(
        question=f"Shall I send order {number} to {where}?",
        done=f"Order {number} will be sent to {where}.",
        rows=[["Order", number], ["Address", where]],
        order=order,
    )


def modify_payment(shop: Shop, customer: str, order_id: str, method: str) -> Change:
    """Pay a pending order in another way; what was paid goes back."""
    order, user = own_order(shop, customer, order_id), own_profile(shop, customer)
    _demand(order, "pending", "changed")
    _method(user, method)
    payments = [each for each in order["payment_history"] if _is_payment(each)]
    if len(order["payment_history"]) != 1 or not payments:
        raise Refused("The payment of this order was changed before and cannot be changed again.")
    former, amount = payments[0]["payment_method_id"], payments[0]["amount"]
    if former == method:
        raise Refused("The new way to pay must be another one than the first.")
    _charge(order, user, method, amount)
    _refund(order, user, former, amount)
    number = order["order_id"]
    return Change(
        question=f"Shall I charge {money(amount)} for order {number} to {method}?",
        costs=_back_to(former, amount),
        done=f"Order {number} is now paid with {method}. {_back_to(former, amount)}",
        rows=[["Order", number], ["New payment", method], ["Former payment", former], ["Amount", money(amount)]],
        order=order, user=user,
    )  # fmt: skip


def modify_items(
    shop: Shop, customer: str, order_id: str, items: Sequence[str], new_items: Sequence[str], method: str
) -> Change:
    """Replace items of a pending order by other options of the same products. Possible once."""
    order, user = own_order(shop, customer, order_id), own_profile(shop, customer)
    _demand(order, "pending", "changed")
    swaps = _swaps(shop, order, items, new_items)
    difference = _difference(swaps)
    _method(user, method)
    _afford(user, method, difference)
    if difference > 0:
        _charge(order, user, method, difference)
    elif difference < 0:
        _refund(order, user, method, -difference)
    number, told, rows = order["order_id"], _told(swaps), _swap_rows(swaps)
    for old, new in swaps:
        old["item_id"], old["price"], old["options"] = new["item_id"], new["price"], new["options"]
    order["status"] = MODIFIED
    return Change(
        question=f"Shall I change these items of order {number}, which is possible only once: {_names(swaps)}?",
        costs=_settled(difference, method),
        done=f"Order {number} is changed: {told}. {_settled(difference, method)}",
        rows=[["Order", number], *rows, ["Price difference", _signed(difference)], ["Payment", method]],
        order=order, user=user,
    )  # fmt: skip


def return_items(shop: Shop, customer: str, order_id: str, items: Sequence[str], method: str) -> Change:
    """Take back items of a delivered order; the refund goes to the first way of payment or to a gift card."""
    order, user = own_order(shop, customer, order_id), own_profile(shop, customer)
    _demand(order, "delivered", "returned")
    found = _pick(order, items)
    kind = _method(user, method)["source"]
    if kind != "gift_card" and method not in {each["payment_method_id"] for each in order["payment_history"]}:
        raise Refused("The refund can go to the way the order was paid, or to one of your gift cards.")
    amount = round(sum(each["price"] for each in found), 2)
    order["status"] = "return requested"
    order["return_items"], order["return_payment_method_id"] = sorted(items), method
    number, names = order["order_id"], ", ".join(each["name"] for each in found)
    return Change(
        question=f"Shall I take back these items of order {number}: {names}?",
        costs=_back_to(method, amount),
        done=f"The return of {names} from order {number} is requested. {_back_to(method, amount)} "
        "An e-mail will tell you how to send them.",
        rows=[["Order", number], *_items(found), ["Refund", money(amount)], ["To", method]],
        order=order,
    )


def exchange_items(
    shop: Shop, customer: str, order_id: str, items: Sequence[str], new_items: Sequence[str], method: str
) -> Change:
    """Exchange items of a delivered order for other options of the same products. Possible once."""
    order, user = own_order(shop, customer, order_id), own_profile(shop, customer)
    _demand(order, "delivered", "exchanged")
    swaps = _swaps(shop, order, items, new_items)
    difference = _difference(swaps)
    _method(user, method)
    _afford(user, method, difference)
    order["status"] = "exchange requested"
    order["exchange_items"], order["exchange_new_items"] = sorted(items), sorted(new_items)
    order["exchange_payment_method_id"], order["exchange_price_difference"] = method, difference
    number, told = order["order_id"], _told(swaps)
    return Change(
        question=f"Shall I exchange these items of order {number}: {_names(swaps)}?",
        costs=_settled(difference, method),
        done=f"The exchange in order {number} is requested: {told}. {_settled(difference, method)} "
        "An e-mail will tell you how to send the old items.",
        rows=[["Order", number], *_swap_rows(swaps), ["Price difference", _signed(difference)], ["Payment", method]],
        order=order,
    )


def modify_user(shop: Shop, customer: str, user_id: str, address: Document) -> Change:
    """Change the customer's own default address."""
    user = own_profile(shop, customer, user_id)
    user["address"] = _address(address)
    where = _line(user["address"])
    return Change(
        question=f"Shall I make {where} your default address?",
        done=f"Your default address is now {where}.",
        rows=[["Address", where]],
        user=user,
    )


# --- what they are made of ------------------------------------------------------------------------------------------


def _demand(order: Document, status: str, done: str) -> None:
    if order["status"] == status:
        return
    if order["status"] == MODIFIED:
        raise Refused(
            "The items of this order were changed already; after that it can be changed or cancelled no more."
        )
    raise Refused(f"Only a {status} order can be {done}; order {order['order_id']} is {order['status']}.")


def _pick(order: Document, items: Sequence[str]) -> list[Document]:
    """The items of the order with these ids; an id that is given twice must be there twice."""
    if not items:
        raise Refused("Please say which items it is about.")
    left = list(order["items"])
    found = []
    for wanted in items:
        item = next((each for each in left if each["item_id"] == wanted), None)
        if item is None:
            often = Counter(each["item_id"] for each in order["items"])[wanted]
            there = f"only {often} times" if often else "not"
            raise Refused(f"Item {wanted[:20]} is {there} in order {order['order_id']}.")
        left.remove(item)
        found.append(item)
    return found


def _swaps(
    shop: Shop, order: Document, items: Sequence[str], new_items: Sequence[str]
) -> list[tuple[Document, Document]]:
    """(item of the order, variant that replaces it)."""
    if len(items) != len(new_items):
        raise Refused("Each item needs one new item in its place.")
    swaps = []
    for item, wanted in zip(_pick(order, items), new_items, strict=True):
        product = shop.product(item["product_id"])
        variant = product["variants"].get(wanted) if product is not None else None
        if variant is None:
            raise Refused(
                f"Item {wanted[:20]} is no {item['name']}; only another option of the same product is possible."
            )
        if not variant["available"]:
            raise Refused(f"The {item['name']} with number {wanted} is not available.")
        if wanted == item["item_id"]:
            raise Refused(f"The new {item['name']} must be another one than the present.")
        swaps.append((item, variant))
    return swaps


def _difference(swaps: Sequence[tuple[Document, Document]]) -> float:
    """What the new items cost more than the old ones; below 0 when they cost less."""
    return float(round(sum(new["price"] for _, new in swaps) - sum(old["price"] for old, _ in swaps), 2))


def _method(user: Document, method: str) -> Document:
    found = user["payment_methods"].get(method)
    if found is None:
        raise Refused("This way to pay is not in your profile.")
    return dict(found)


def _afford(user: Document, method: str, amount: float) -> None:
    card = _method(user, method)
    if card["source"] == "gift_card" and card["balance"] < amount:
        raise Refused(f"The gift card holds {money(card['balance'])}, which is less than {money(amount)}.")


def _charge(order: Document, user: Document, method: str, amount: float) -> None:
    _afford(user, method, amount)
    _book(order, user, method, amount, "payment", -amount)


def _refund(order: Document, user: Document, method: str, amount: float) -> None:
    _book(order, user, method, amount, "refund", amount)


def _book(order: Document, user: Document, method: str, amount: float, kind: str, onto_card: float) -> None:
    order["payment_history"].append({"transaction_type": kind, "amount": amount, "payment_method_id": method})
    card = user["payment_methods"].get(method)
    if card is not None and card["source"] == "gift_card":
        card["balance"] = round(card["balance"] + onto_card, 2)


def _is_payment(transaction: Document) -> bool:
    return bool(transaction["transaction_type"] == "payment")


def _address(given: Document) -> Document:
    return {name: given[name] for name in ADDRESS}


def _line(address: Document) -> str:
    return ", ".join(address[name] for name in ADDRESS if address[name])


def _back_to(method: str, amount: float) -> str:
    when = "at once" if method.startswith("gift_card") else "within 5 to 7 business days"
    return f"{money(amount)} will go back to {method} {when}."


def _settled(difference: float, method: str) -> str:
    if difference > 0:
        return f"The price difference of {money(difference)} will be charged to {method}."
    return f"The price difference: {_back_to(method, -difference)}" if difference < 0 else "The price stays the same."


def _signed(difference: float) -> str:
    return f"-{money(-difference)}" if difference < 0 else money(difference)


def _options(variant: Document) -> str:
    return ", ".join(f"{name} {value}" for name, value in variant["options"].items())


def _items(items: Sequence[Document]) -> list[list[str]]:
    return [[item["name"], f"{_options(item)}: {money(item['price'])}"] for item in items]


def _names(swaps: Sequence[tuple[Document, Document]]) -> str:
    return ", ".join(old["name"] for old, _ in swaps)


def _told(swaps: Sequence[tuple[Document, Document]]) -> str:
    return "; ".join(f"{old['name']} becomes {_options(new)} for {money(new['price'])}" for old, new in swaps)


def _swap_rows(swaps: Sequence[tuple[Document, Document]]) -> list[list[str]]:
    return [[old["name"], f"{_options(old)} → {_options(new)}"] for old, new in swaps]
