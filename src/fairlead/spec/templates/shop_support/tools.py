"""What the assistant can look up. Each public function becomes a tool; a model sees its signature and docstring.

Who may see what is decided here, in code: an order is shown only to someone who knows its number *and* its e-mail
address, and a wrong number gets the same answer as a wrong address. Replace the CSV file by your own system.
"""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fairlead.tools import reads

ORDERS = Path(__file__).parent / "data" / "orders.csv"

OrderNumber = Annotated[
    str,
    Field(
        description="Order number from the confirmation e-mail: LL and five digits, for example LL-10427",
        pattern=r"^([Ll]{2})?[ -]?[0-9]{5}$",
        examples=["LL-10427"],
    ),
]
Email = Annotated[
    str,
    Field(
        description="E-mail address the order was placed with",
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        max_length=254,
        examples=["mia.berg@example.com"],
        json_schema_extra={"format": "email"},
    ),
]

NOT_FOUND = "I cannot find an order with this number and this e-mail address. Please check both."
STATUS = {
    "received": "We have received your order {number}; it should arrive by {expected}.",
    "packed": "Your order {number} is packed; it should arrive by {expected}.",
    "shipped": "Your order {number} is on its way and should arrive by {expected}.",
    "delivered": "Your order {number} was delivered on {expected}.",
    "returned": "Your return of order {number} has arrived; the refund is on its way.",
}


@reads
def find_order(order_id: OrderNumber, email: Email) -> dict[str, Any]:
    """Look up a customer's order: status, article, total and expected delivery date.

    Use it when a customer asks where an order or a parcel is, what was ordered, or when it arrives.
    """
    number = "LL-" + "".join(digit for digit in order_id if digit.isdigit())
    with ORDERS.open(encoding="utf-8", newline="") as file:
        orders = [row for row in csv.DictReader(file) if row["number"] == number]
    if not orders or orders[0]["email"] != email.strip().lower():
        return {"found": False, "summary": NOT_FOUND}
    order = orders[0]
    expected = _day(order["expected"])
    rows = [["Order", number], ["Status", order["status"].capitalize()], ["Article", order["article"]]]
    rows += [["Total", order["total"]], ["Placed", _day(order["placed"])], ["Expected", expected]]
    if order["tracking"]:
        rows.append(["Tracking number", order["tracking"]])
    return {
        "found": True,
        "summary": STATUS[order["status"]].format(number=number, expected=expected),
        "order_id": number,
        "status": order["status"],
        "card": {"title": f"Order {number}", "rows": rows},
    }


def _day(text: str) -> str:
    """``2026-11-24`` as ``24 November 2026``."""
    day = date.fromisoformat(text)
    return f"{day.day} {day:%B %Y}"
