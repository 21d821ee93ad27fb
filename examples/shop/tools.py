"""What the assistant of Tarn & Tinder can look up. Fairlead turns each public function here into a tool.

The signature and the docstring are all a model sees. Who may see what is decided here, in code: an order is shown only
to someone who knows its number *and* the e-mail address it was placed with. A wrong number and a wrong address get
the same answer, so nobody can find out which orders or which customers exist.

A result is plain data. ``summary`` is a sentence the assistant may say as it stands; ``card`` is shown to the customer
as a small table. Numbers are formatted here, so that no model has to calculate.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from fairlead.tools import reads

DATABASE = Path(__file__).parent / "data" / "orders.sqlite"
SHOP_TIME = ZoneInfo("Europe/Berlin")

OrderNumber = Annotated[
    str,
    Field(
        description="The order number: TT and six digits, from the confirmation e-mail",
        pattern=r"^[Tt]{0,2}[ -]?[0-9]{6}$",
        examples=["TT-482913"],
    ),
]
Email = Annotated[
    str,
    Field(
        description="The e-mail address of the order",
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        max_length=254,
        examples=["mira.holm@example.com"],
        json_schema_extra={"format": "email"},
    ),
]
Day = Annotated[
    str,
    Field(
        description="today, tomorrow, a weekday such as Saturday, or a date as YYYY-MM-DD",
        max_length=20,
        examples=["Saturday", "2026-12-24"],
    ),
]

NOT_FOUND = (
    "I cannot find an order with this number and this e-mail address. "
    "Please check both: the number is in the confirmation e-mail and looks like TT-482913."
)


@reads
def find_order(order_id: OrderNumber, email: Email) -> dict[str, Any]:
    """Look up a customer's order: status, items, total, payment and expected delivery date.

    Use it when a customer asks where an order is, what was ordered, or when it arrives.
    """
    with closing(_open()) as database:
        order = _authorised_order(database, order_id, email)
        if order is None:
            return {"found": False, "summary": NOT_FOUND}
        items = database.execute(
            "SELECT article, variant, quantity, price_cents FROM items WHERE order_id = ? ORDER BY position",
            (order["id"],),
        ).fetchall()
    rows = [["Order", order["id"]], ["Status", order["status"].capitalize()], ["Placed", _day(order["placed"])]]
    rows += [
        [f"{item['quantity']} × {item['article']}", f"{item['variant']}, {_euros(item['price_cents'])}"]
        for item in items
    ]
    if order["discount_cents"]:
        rows.append(["Discount", f"−{_euros(order['discount_cents'])}"])
    rows += [
        ["Delivery", _euros(order["delivery_cents"])],
        ["Total", f"{_euros(order['total_cents'])}, {order['payment']}"],
    ]
    if order["delivered"]:
        rows.append(["Delivered", _day(order["delivered"])])
    elif order["expected"]:
        rows.append(["Expected", _day(order["expected"])])
    return {
        "found": True,
        "summary": _say_status(order),
        "order_id": order["id"],
        "status": order["status"],
        "card": {"title": f"Order {order['id']}", "rows": rows},
    }


@reads
def track_parcel(order_id: OrderNumber, email: Email) -> dict[str, Any]:
    """Track the parcel of an order: carrier, tracking number and the scans so far.

    Use it when a customer asks for the tracking number, the carrier, or where the parcel is right now.
    """
    with closing(_open()) as database:
        order = _authorised_order(database, order_id, email)
        if order is None:
            return {"found": False, "summary": NOT_FOUND}
        events = database.execute(
            "SELECT time, place, text FROM events WHERE order_id = ? ORDER BY time DESC LIMIT 8", (order["id"],)
        ).fetchall()
    if not order["tracking"]:
        return {
            "found": True,
            "summary": f"{_say_status(order)} There is no tracking number yet.",
            "order_id": order["id"],
        }
    last = events[0]
    return {
        "found": True,
        "summary": (
            f"The parcel of your order {order['id']} travels with {order['carrier']}, "
            f"tracking number {order['tracking']}. "
            f"Last scan: {last['text'].lower()}, {last['place']}, {_day(last['time'])} at {last['time'][11:16]}."
        ),
        "order_id": order["id"],
        "tracking": order["tracking"],
        "card": {
            "title": f"Parcel {order['tracking']}",
            "rows": [
                [f"{_day(event['time'])}, {event['time'][11:16]}", f"{event['text']}, {event['place']}"]
                for event in events
            ],
        },
    }


@reads
def opening_hours(day: Day = "today", store: Literal["Hamburg", "Munich", "both"] = "both") -> dict[str, Any]:
    """When our Hamburg and Munich stores are open on a certain day, public holidays included.

    Use it when a customer names a day or asks whether a store is open today or tomorrow.
    """
    asked = _read_day(day, datetime.now(SHOP_TIME).date())
    if asked is None:
        return {"found": False, "summary": "Which day do you mean? Please give a weekday or a date such as 2026-12-24."}
    names = ["Hamburg", "Munich"] if store == "both" else [store]
    hours = {name: _hours(name, asked) for name in names}
    spoken = " and ".join(
        f"the {name} store is {'closed' if time == 'closed' else f'open {time}'}" for name, time in hours.items()
    )
    return {
        "found": True,
        "summary": f"On {asked:%A}, {asked.day} {asked:%B %Y}, {spoken}.",
        "date": asked.isoformat(),
        "hours": hours,
    }


def _open() -> sqlite3.Connection:
    if not DATABASE.exists():
        raise FileNotFoundError(
            f"{DATABASE} is missing; make it with: python {Path(__file__).parent / 'make_orders.py'}"
        )
    database = sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    return database


def _authorised_order(database: sqlite3.Connection, order_id: str, email: str) -> sqlite3.Row | None:
    """The order if number and e-mail address belong together, else None. One query, so that time tells nothing."""
    number = f"TT-{re.sub(r'[^0-9]', '', order_id)}"
    row: sqlite3.Row | None = database.execute(
        "SELECT orders.* FROM orders JOIN customers ON customers.id = orders.customer "
        "WHERE orders.id = ? AND customers.email = ?",
        (number, email.strip().lower()),
    ).fetchone()
    return row


def _say_status(order: sqlite3.Row) -> str:
    number, carrier, payment = order["id"], order["carrier"], order["payment"]
    expected = _day(order["expected"]) if order["expected"] else ""
    delivered = _day(order["delivered"]) if order["delivered"] else ""
    sentences = {
        "received": f"We have received your order {number}; it should arrive by {expected}.",
        "packed": f"Your order {number} is packed and waits for the carrier; it should arrive by {expected}.",
        "shipped": f"Your order {number} is on its way with {carrier} and should arrive by {expected}.",
        "out for delivery": f"Your order {number} is in the delivery van of {carrier} and should arrive on {expected}.",
        "delivered": f"Your order {number} was delivered on {delivered}.",
        "returned": f"Your return of order {number} has arrived. The refund goes to your payment method ({payment}).",
        "cancelled": f"Your order {number} was cancelled. What you paid goes back to your payment method ({payment}).",
    }
    return sentences[order["status"]]


def _day(text: str) -> str:
    """``2026-11-20…`` as ``20 November 2026``."""
    day = date.fromisoformat(text[:10])
    return f"{day.day} {day:%B %Y}"


def _euros(cents: int) -> str:
    return f"€{cents // 100:,}.{cents % 100:02d}"


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HOURS = {  # store: Monday to Sunday
    "Hamburg": ("10:00–19:00",) * 3 + ("10:00–20:00",) * 2 + ("10:00–18:00", "closed"),
    "Munich": ("10:00–20:00",) * 5 + ("09:30–18:00", "closed"),
}


def _read_day(text: str, today: date) -> date | None:
    """The day a customer means, from today on; None when it cannot be read."""
    word = text.strip().lower()
    if word in {"today", "now", "tonight", ""}:
        return today
    if word == "tomorrow":
        return today + timedelta(days=1)
    for number, name in enumerate(WEEKDAYS):
        if word.rstrip("s").split()[-1] in {name, name[:3]}:
            return today + timedelta(days=(number - today.weekday()) % 7)
    try:
        return date.fromisoformat(word)
    except ValueError:
        return None


def _hours(store: str, day: date) -> str:
    hours = HOURS[store][day.weekday()]
    if day in _holidays(store, day.year):
        return "closed"
    if (day.month, day.day) in {(12, 24), (12, 31)} and hours != "closed":
        return f"{hours[:5]}–13:00"
    return hours


def _holidays(store: str, year: int) -> set[date]:
    """Public holidays in Hamburg or in Munich."""
    fixed = [(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)]
    fixed += [(10, 31)] if store == "Hamburg" else [(1, 6), (8, 15), (11, 1)]
    after_easter = [-2, 1, 39, 50] + ([60] if store == "Munich" else [])
    easter = _easter(year)
    return {date(year, *day) for day in fixed} | {easter + timedelta(days=days) for days in after_easter}


def _easter(year: int) -> date:
    """Easter Sunday, after the anonymous Gregorian algorithm (Nature, 20 April 1876)."""
    a, b, c = year % 19, year // 100, year % 100
    d = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    e = (32 + 2 * (b % 4) + 2 * (c // 4) - d - c % 4) % 7
    f = d + e - 7 * ((a + 11 * d + 22 * e) // 451) + 114
    return date(year, f // 31, f % 31 + 1)
