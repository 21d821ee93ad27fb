"""The retail shop's tools, as Fairlead's assistant takes them: ``python -m fairlead.tools tools.py`` serves them.

Looking things up is free, what changes something asks first: the question comes from a check in code that applies the
same rules as the change itself. Whose matter it is comes from the session, never from an argument. The names and
arguments are those of the benchmark, so that a model that knows it finds what it expects.
"""

from __future__ import annotations

import ast
import math
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from benchmarks.tau2_retail import rules
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.rules import Change, Refused
from fairlead.tools import Context, Customer, reads, writes

__all__ = [
    "calculate",
    "cancel_pending_order",
    "check_address",
    "check_cancel",
    "check_exchange",
    "check_items",
    "check_payment",
    "check_return",
    "check_user_address",
    "exchange_delivered_order_items",
    "find_user_id_by_email",
    "find_user_id_by_name_zip",
    "get_item_details",
    "get_order_details",
    "get_product_details",
    "get_user_details",
    "list_all_product_types",
    "modify_pending_order_address",
    "modify_pending_order_items",
    "modify_pending_order_payment",
    "modify_user_address",
    "return_delivered_order_items",
    "transfer_to_human_agents",
]

FILE: Final = "TAU2_DATABASE"
"""Environment variable with the path of the shop's database."""

OrderId = Annotated[str, Field(description="The order number, such as #W1234567", max_length=20)]
ItemIds = Annotated[
    list[Annotated[str, Field(max_length=20)]],
    Field(description="Numbers of the items of the order, one for each piece", min_length=1, max_length=40),
]
NewItemIds = Annotated[
    list[Annotated[str, Field(max_length=20)]],
    Field(description="Numbers of the items that take their places, in the same order", min_length=1, max_length=40),
]
Method = Annotated[
    str, Field(description="Id of a payment method of the customer's profile, such as gift_card_1234567", max_length=40)
]
UserId = Annotated[str, Field(description="The customer's user id, such as sara_doe_496", max_length=60)]
Text = Annotated[str, Field(max_length=200)]
Reason = Literal["no longer needed", "ordered by mistake"]

_OPERATORS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


# --- who it is ------------------------------------------------------------------------------------------------------


@reads(identifies=True)
def find_user_id_by_email(
    email: Annotated[
        str, Field(description="The customer's e-mail address", max_length=254, json_schema_extra={"format": "email"})
    ],
) -> dict[str, Any]:
    """Recognise the customer by e-mail address. Do this, or find_user_id_by_name_zip, before anything personal."""
    return _recognise("find_user_id_by_email", {"email": email}, lambda user: _same(user["email"], email))


@reads(identifies=True)
def find_user_id_by_name_zip(
    first_name: Annotated[str, Field(description="The customer's first name", max_length=80)],
    last_name: Annotated[str, Field(description="The customer's last name", max_length=80)],
    zip: Annotated[str, Field(description="The zip code of the customer's address", max_length=12)],  # noqa: A002
) -> dict[str, Any]:
    """Recognise the customer by first name, last name and zip code, when the e-mail address is not known."""
    given = {"first_name": first_name, "last_name": last_name, "zip": zip}

    def fits(user: dict[str, Any]) -> bool:
        name = user["name"]
        facts = (name["first_name"], name["last_name"], user["address"]["zip"])
        return all(_same(*pair) for pair in zip_(facts, given.values()))

    return _recognise("find_user_id_by_name_zip", given, fits)


# --- looking up -----------------------------------------------------------------------------------------------------


@reads
def get_user_details(user_id: UserId, customer: Customer) -> dict[str, Any]:
    """The customer's profile: name, address, e-mail, payment methods, numbers of all orders."""
    return _look_up(
        "get_user_details", {"user_id": user_id}, customer,
        lambda shop: {"user": rules.own_profile(shop, customer.id, user_id)},
    )  # fmt: skip


@reads
def get_order_details(order_id: OrderId, customer: Customer) -> dict[str, Any]:
    """An order: its status, items with options and prices, address, tracking numbers and payments."""

    def find(shop: Database) -> dict[str, Any]:
        order = rules.own_order(shop, customer.id, order_id)
        return {"order": order, "summary": _order_in_words(order)}

    return _look_up("get_order_details", {"order_id": order_id}, customer, find)


@reads
def list_all_product_types() -> dict[str, Any]:
    """The names of all products with their product ids."""
    return _look_up(
        "list_all_product_types", {}, None,
        lambda shop: {"products": {each["name"]: each["product_id"] for each in shop.all("products")}},
    )  # fmt: skip


@reads
def get_product_details(
    product_id: Annotated[str, Field(description="The product id; it is not an item id", max_length=20)],
) -> dict[str, Any]:
    """A product: every variant with its item id, options, price, and whether it is available."""

    def find(shop: Database) -> dict[str, Any]:
        product = shop.product(product_id)
        if product is None:
            raise Refused("I cannot find a product with this number.")
        there = [each for each in product["variants"].values() if each["available"]]
        return {
            "product": product,
            "summary": f"{product['name']}: {len(there)} of {len(product['variants'])} options are available.",
        }

    return _look_up("get_product_details", {"product_id": product_id}, None, find)


@reads
def get_item_details(
    item_id: Annotated[str, Field(description="The item id; it is not a product id", max_length=20)],
) -> dict[str, Any]:
    """One variant of a product: its options, price, and whether it is available."""

    def find(shop: Database) -> dict[str, Any]:
        for product in shop.all("products"):
            if item_id in product["variants"]:
                return {"item": {"name": product["name"], **product["variants"][item_id]}}
        raise Refused("I cannot find an item with this number.")

    return _look_up("get_item_details", {"item_id": item_id}, None, find)


@reads
def calculate(
    expression: Annotated[
        str, Field(description="Numbers, + - * / and brackets, such as 12.50 + 3 * 2", max_length=200)
    ],
) -> dict[str, Any]:
    """Work out a sum, rounded to cents. Use it for every amount that stands in no result as it is."""

    def find(_: Database) -> dict[str, Any]:
        value = work_out(expression)
        return {"result": value, "summary": f"{expression} = {value:.2f}"}

    return _look_up("calculate", {"expression": expression}, None, find)


@reads
def transfer_to_human_agents(
    summary: Annotated[str, Field(description="What the customer wants, in a sentence or two", max_length=1000)],
) -> dict[str, Any]:
    """Pass the customer on to a person, when what is wanted is outside of what the tools can do."""
    return _look_up(
        "transfer_to_human_agents", {"summary": summary}, None,
        lambda _: {"summary": "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."},
    )  # fmt: skip


# --- changing: each with the check that asks --------------------------------------------------------------------------


@reads(hidden=True)
def check_cancel(order_id: OrderId, reason: Reason, customer: Customer) -> dict[str, Any]:
    """Whether an order can be cancelled."""
    return _check(lambda shop: rules.cancel(shop, customer.id, order_id, reason))


@writes(ask="{question} {costs}", check="check_cancel")
def cancel_pending_order(order_id: OrderId, reason: Reason, customer: Customer, context: Context) -> dict[str, Any]:
    """Cancel a pending order as a whole, for one of two reasons."""
    given = {"order_id": order_id, "reason": reason}
    return _do(
        "cancel_pending_order", given, customer, context,
        lambda shop: rules.cancel(shop, customer.id, order_id, reason),
    )  # fmt: skip


@reads(hidden=True)
def check_address(
    order_id: OrderId, address1: Text, address2: Text, city: Text, state: Text, country: Text, zip: Text,  # noqa: A002
    customer: Customer,
) -> dict[str, Any]:  # fmt: skip
    """Whether an order can be sent to another address."""
    address = _address(address1, address2, city, state, country, zip)
    return _check(lambda shop: rules.modify_address(shop, customer.id, order_id, address))


@writes(ask="{question} {costs}", check="check_address")
def modify_pending_order_address(
    order_id: OrderId, address1: Text, address2: Text, city: Text, state: Text, country: Text, zip: Text,  # noqa: A002
    customer: Customer, context: Context,
) -> dict[str, Any]:  # fmt: skip
    """Send a pending order to another address."""
    address = _address(address1, address2, city, state, country, zip)
    return _do(
        "modify_pending_order_address", {"order_id": order_id, **address}, customer, context,
        lambda shop: rules.modify_address(shop, customer.id, order_id, address),
    )  # fmt: skip


@reads(hidden=True)
def check_payment(order_id: OrderId, payment_method_id: Method, customer: Customer) -> dict[str, Any]:
    """Whether an order can be paid in another way."""
    return _check(lambda shop: rules.modify_payment(shop, customer.id, order_id, payment_method_id))


@writes(ask="{question} {costs}", check="check_payment")
def modify_pending_order_payment(
    order_id: OrderId, payment_method_id: Method, customer: Customer, context: Context
) -> dict[str, Any]:
    """Pay a pending order with another payment method of the profile."""
    return _do(
        "modify_pending_order_payment", {"order_id": order_id, "payment_method_id": payment_method_id},
        customer, context, lambda shop: rules.modify_payment(shop, customer.id, order_id, payment_method_id),
    )  # fmt: skip


@reads(hidden=True)
def check_items(
    order_id: OrderId, item_ids: ItemIds, new_item_ids: NewItemIds, payment_method_id: Method, customer: Customer
) -> dict[str, Any]:
    """Whether items of a pending order can be changed."""
    return _check(
        lambda shop: rules.modify_items(shop, customer.id, order_id, item_ids, new_item_ids, payment_method_id)
    )


@writes(ask="{question} {costs}", check="check_items")
def modify_pending_order_items(
    order_id: OrderId, item_ids: ItemIds, new_item_ids: NewItemIds, payment_method_id: Method,
    customer: Customer, context: Context,
) -> dict[str, Any]:  # fmt: skip
    """Change items of a pending order to other options of the same products. Once an order: give all items at once."""
    return _do(
        "modify_pending_order_items", _swap(order_id, item_ids, new_item_ids, payment_method_id), customer, context,
        lambda shop: rules.modify_items(shop, customer.id, order_id, item_ids, new_item_ids, payment_method_id),
    )  # fmt: skip


@reads(hidden=True)
def check_user_address(
    user_id: UserId, address1: Text, address2: Text, city: Text, state: Text, country: Text, zip: Text,  # noqa: A002
    customer: Customer,
) -> dict[str, Any]:  # fmt: skip
    """Whether the default address can be changed."""
    address = _address(address1, address2, city, state, country, zip)
    return _check(lambda shop: rules.modify_user(shop, customer.id, user_id, address))


@writes(ask="{question} {costs}", check="check_user_address")
def modify_user_address(
    user_id: UserId, address1: Text, address2: Text, city: Text, state: Text, country: Text, zip: Text,  # noqa: A002
    customer: Customer, context: Context,
) -> dict[str, Any]:  # fmt: skip
    """Change the default address of the customer's profile."""
    address = _address(address1, address2, city, state, country, zip)
    return _do(
        "modify_user_address", {"user_id": user_id, **address}, customer, context,
        lambda shop: rules.modify_user(shop, customer.id, user_id, address),
    )  # fmt: skip


@reads(hidden=True)
def check_return(order_id: OrderId, item_ids: ItemIds, payment_method_id: Method, customer: Customer) -> dict[str, Any]:
    """Whether items of a delivered order can be returned."""
    return _check(lambda shop: rules.return_items(shop, customer.id, order_id, item_ids, payment_method_id))


@writes(ask="{question} {costs}", check="check_return")
def return_delivered_order_items(
    order_id: OrderId, item_ids: ItemIds, payment_method_id: Method, customer: Customer, context: Context
) -> dict[str, Any]:
    """Return items of a delivered order; the refund goes to the first payment method or to a gift card."""
    given = {"order_id": order_id, "item_ids": item_ids, "payment_method_id": payment_method_id}
    return _do(
        "return_delivered_order_items", given, customer, context,
        lambda shop: rules.return_items(shop, customer.id, order_id, item_ids, payment_method_id),
    )  # fmt: skip


@reads(hidden=True)
def check_exchange(
    order_id: OrderId, item_ids: ItemIds, new_item_ids: NewItemIds, payment_method_id: Method, customer: Customer
) -> dict[str, Any]:
    """Whether items of a delivered order can be exchanged."""
    return _check(
        lambda shop: rules.exchange_items(shop, customer.id, order_id, item_ids, new_item_ids, payment_method_id)
    )


@writes(ask="{question} {costs}", check="check_exchange")
def exchange_delivered_order_items(
    order_id: OrderId, item_ids: ItemIds, new_item_ids: NewItemIds, payment_method_id: Method,
    customer: Customer, context: Context,
) -> dict[str, Any]:  # fmt: skip
    """Exchange items of a delivered order for other options of the same products. Once an order: all at once."""
    return _do(
        "exchange_delivered_order_items", _swap(order_id, item_ids, new_item_ids, payment_method_id), customer, context,
        lambda shop: rules.exchange_items(shop, customer.id, order_id, item_ids, new_item_ids, payment_method_id),
    )  # fmt: skip


# --- how they are run -------------------------------------------------------------------------------------------------


zip_ = zip


@contextmanager
def _open() -> Iterator[Database]:
    database = Database(Path(os.environ[FILE]))
    try:
        yield database
    finally:
        database.close()


def _recognise(name: str, given: dict[str, Any], fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    with _open() as database:
        user = next((each for each in database.all("users") if fits(each)), None)
        database.note(name, given, customer=user["user_id"] if user else "", refused=None if user else "not found")
    if user is None:
        return {"found": False, "summary": "I cannot find a customer with these details. Please check them."}
    called = f"{user['name']['first_name']} {user['name']['last_name']}"
    return {
        "user_id": user["user_id"],
        "summary": f"Thank you, {user['name']['first_name']}, I have found you.",
        "customer": {"id": user["user_id"], "email": user["email"], "name": called},
    }


def _look_up(
    name: str, given: dict[str, Any], customer: Customer | None, find: Callable[[Database], dict[str, Any]]
) -> dict[str, Any]:
    whose = customer.id if customer is not None else ""
    with _open() as database:
        try:
            found = find(database)
        except Refused as refusal:
            database.note(name, given, customer=whose, refused=str(refusal))
            return {"found": False, "summary": str(refusal)}
        database.note(name, given, customer=whose)
        return found


def _check(plan: Callable[[Database], Change]) -> dict[str, Any]:
    with _open() as database:
        try:
            change = plan(database)
        except Refused as refusal:
            return {"ok": False, "error": str(refusal)}
    return {
        "ok": True,
        "question": change.question,
        "costs": change.costs,
        "card": {"title": "To confirm", "rows": change.rows},
    }


def _do(
    name: str, given: dict[str, Any], customer: Customer, context: Context, plan: Callable[[Database], Change]
) -> dict[str, Any]:
    with _open() as database:
        try:
            said = database.change(context.key, plan, conversation=context.conversation, customer=customer.id)
        except Refused as refusal:
            database.note(name, given, key=context.key, customer=customer.id, refused=str(refusal))
            return {"ok": False, "error": str(refusal)}
        database.note(name, given, key=context.key, customer=customer.id)
        return {"ok": True, "summary": said}


def _same(known: str, given: str) -> bool:
    return known.casefold() == given.strip().casefold()


def _address(address1: str, address2: str, city: str, state: str, country: str, zip_code: str) -> dict[str, str]:
    return dict(zip_(rules.ADDRESS, (address1, address2, city, state, country, zip_code)))


def _swap(order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], method: str) -> dict[str, Any]:
    return {
        "order_id": order_id, "item_ids": list(item_ids), "new_item_ids": list(new_item_ids),
        "payment_method_id": method,
    }  # fmt: skip


def _order_in_words(order: dict[str, Any]) -> str:
    names = ", ".join(f"{item['name']} ({rules.money(item['price'])})" for item in order["items"])
    tracking = ", ".join(each for part in order["fulfillments"] for each in part["tracking_id"])
    sent = f" Tracking number: {tracking}." if tracking else ""
    total = rules.money(rules.paid(order))
    return f"Order {order['order_id']} is {order['status']}: {names}. Paid: {total}.{sent}"


def work_out(expression: str) -> float:
    """The value of a sum, rounded to cents. Raises Refused for what is none."""
    try:
        value = round(_value(ast.parse(expression.strip(), mode="eval").body), 2)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise Refused("I can only work out sums with + - * / and brackets.") from error
    if not math.isfinite(value):
        raise Refused("That is too large a number.")
    return value


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(left), _value(right))
        case _:
            raise ValueError(ast.dump(node)[:100])
