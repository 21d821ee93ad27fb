"""What the assistant of Tarn & Tinder can look up and do. Fairlead turns each public function here into a tool.

The signature and the docstring are all a model sees. Who may see and do what is decided here and by Fairlead, in code:
a function with a ``Customer`` is called only for a customer whom ``recognise`` has recognised by an order number *and*
the e-mail address it was placed with, and touches only that customer's orders. A wrong number and a wrong address get
the same answer, so nobody can find out which orders or which customers exist. What ``writes`` happens only after the
customer's own yes, and once for each ``Context.key``.

A result is plain data. ``summary`` is a sentence the assistant may say as it stands; ``card`` is shown to the customer
as a small table. Numbers are formatted here, so that no model has to calculate.

The file is an MCP server as well: ``python -m fairlead.tools tools.py``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from fairlead.tools import Context, Customer, reads, writes

DATA = Path(__file__).parent / "data"
"""Where the orders of a day are kept from the first change on; until then they are in memory alone."""
TODAY = "SHOP_TODAY"
"""The environment variable that says which day it is (YYYY-MM-DD), for tests and for answers that must repeat."""
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
Euros = Annotated[float, Field(description="The amount in euros", gt=0, le=5_000, multiple_of=0.01, examples=[12.5])]

NOT_FOUND = (
    "I cannot find an order with this number and this e-mail address. "
    "Please check both: the number is in the confirmation e-mail and looks like TT-482913."
)
NOT_YOURS = "I cannot find an order with this number among your orders. Please check the number."
OPEN = ("received", "packed", "shipped", "out for delivery")


# --- looking up ------------------------------------------------------------------------------------------------------


@reads(identifies=True, hidden=True)
def recognise(order_id: OrderNumber, email: Email) -> dict[str, Any]:
    """Who the customer is: whoever knows the number of an order and the e-mail address it was placed with."""
    with _orders() as database:
        # One query, so that time tells nothing either.
        row = database.execute(
            "SELECT customers.id, name, email FROM orders JOIN customers ON customers.id = orders.customer "
            "WHERE orders.id = ? AND customers.email = ?",
            (_number(order_id), email.strip().lower()),
        ).fetchone()
    if row is None:
        return {"found": False, "summary": NOT_FOUND}
    return {"found": True, "customer": {"id": str(row["id"]), "email": row["email"], "name": row["name"]}}


@reads
def find_order(customer: Customer, order_id: OrderNumber = "") -> dict[str, Any]:
    """Look up a customer's order: status, items, total, payment and expected delivery date.

    Use it when a customer asks where an order is, what was ordered, or when it arrives.
    """
    with _orders() as database:
        order = _order(database, customer, order_id)
        if order is None:
            return {"found": False, "summary": NOT_YOURS} if order_id else _which(database, customer)
        card = _card(database, order)
    return {
        "found": True,
        "summary": _say_status(order),
        "order_id": order["id"],
        "status": order["status"],
        "card": card,
    }


@reads
def track_parcel(customer: Customer, order_id: OrderNumber = "") -> dict[str, Any]:
    """Track the parcel of an order: carrier, tracking number and the scans so far.

    Use it when a customer asks for the tracking number, the carrier, or where the parcel is right now.
    """
    with _orders() as database:
        order = _order(database, customer, order_id)
        if order is None:
            return {"found": False, "summary": NOT_YOURS} if order_id else _which(database, customer)
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
            f"The parcel of your order {order['id']} {'went' if order['delivered'] else 'travels'} with "
            f"{order['carrier']}, "
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
    asked = _read_day(day, _today())
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


# --- changing something: each has a check that is called before the customer is asked --------------------------------


@reads(hidden=True)
def can_cancel(order_id: OrderNumber, customer: Customer) -> dict[str, Any]:
    """Whether an order can still be cancelled."""
    with _orders() as database:
        order = _order(database, customer, order_id)
        if order is None:
            return {"found": False, "summary": NOT_YOURS}
        if order["status"] == "cancelled":
            return _no(f"Your order {order['id']} is cancelled already.")
        if order["status"] != "received":
            return _no(
                f"{_say_status(order)} It can no longer be cancelled. You can refuse the parcel at the door or send it "
                "back as a return."
            )
        return {
            "ok": True,
            "number": order["id"],
            "total": _euros(order["total_cents"]),
            "card": _card(database, order),
        }


@writes(ask="Shall I cancel your order {number} ({total})?", check="can_cancel")
def cancel_order(order_id: OrderNumber, customer: Customer, call: Context) -> dict[str, Any]:
    """Cancel an order that is not packed yet. Use it when a customer wants to cancel an order of theirs."""
    with _change(call) as change:
        if change.before is not None:
            return change.before
        checked = can_cancel(order_id, customer)
        if not checked.get("ok"):
            return {"error": checked["summary"]}
        change.database.execute(
            "UPDATE orders SET status = 'cancelled', expected = NULL WHERE id = ? AND customer = ? "
            "AND status = 'received'",
            (_number(order_id), customer.id),
        )
        return change.done(
            f"Your order {checked['number']} is cancelled. If you have paid already, the money goes back to your "
            "payment method within 3 working days."
        )


@reads(hidden=True)
def can_change_address(order_id: OrderNumber, customer: Customer) -> dict[str, Any]:
    """Whether the address of an order can still be changed."""
    with _orders() as database:
        order = _order(database, customer, order_id)
        if order is None:
            return {"found": False, "summary": NOT_YOURS}
        if order["status"] != "received":
            return _no(f"{_say_status(order)} The address can only be changed until the order is packed.")
        if order["payment"] == "invoice":
            return _no(
                "For orders paid by invoice the address cannot be changed. You can cancel the order and order again."
            )
        return {"ok": True, "number": order["id"]}


@writes(ask="Shall I send your order {number} to {address}?", check="can_change_address")
def change_address(
    order_id: OrderNumber,
    address: Annotated[
        str, Field(description="The new address: street, house number, postcode and city", min_length=8, max_length=160)
    ],
    customer: Customer,
    call: Context,
) -> dict[str, Any]:
    """Change the delivery address of an order that is not packed yet, within the same country."""
    with _change(call) as change:
        if change.before is not None:
            return change.before
        checked = can_change_address(order_id, customer)
        if not checked.get("ok"):
            return {"error": checked["summary"]}
        change.database.execute(
            "INSERT INTO addresses VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET address = excluded.address",
            (checked["number"], address),
        )
        return change.done(f"Your order {checked['number']} now goes to {address}.")


@reads(hidden=True)
def can_return(order_id: OrderNumber, customer: Customer) -> dict[str, Any]:
    """Whether an order can be sent back."""
    with _orders() as database:
        order = _order(database, customer, order_id)
        if order is None:
            return {"found": False, "summary": NOT_YOURS}
        if database.execute("SELECT 1 FROM returns WHERE order_id = ?", (order["id"],)).fetchone():
            return _no(f"There is a return label for your order {order['id']} already; it is in your e-mails.")
        if order["status"] in ("returned", "cancelled"):
            return _no(_say_status(order))
        if order["status"] != "delivered":
            return _no(f"{_say_status(order)} A return can be started once an order is delivered.")
        level = database.execute("SELECT level FROM customers WHERE id = ?", (customer.id,)).fetchone()["level"]
        days = 60 if level in ("Ember", "Blaze") else 30
        delivered = date.fromisoformat(order["delivered"][:10])
        until = max(delivered + timedelta(days=days), _holiday_limit(date.fromisoformat(order["placed"][:10])))
        if _today() > until:
            return _no(f"Your order {order['id']} could be returned until {_day(until.isoformat())}; that is over.")
        return {"ok": True, "number": order["id"], "until": _day(until.isoformat()), "card": _card(database, order)}


@writes(
    ask="Shall I make a return label for your order {number}? You can send it back until {until}.", check="can_return"
)
def start_return(order_id: OrderNumber, customer: Customer, call: Context) -> dict[str, Any]:
    """Start the return of a delivered order: makes the return label. Use it when a customer wants to send one back."""
    with _change(call) as change:
        if change.before is not None:
            return change.before
        checked = can_return(order_id, customer)
        if not checked.get("ok"):
            return {"error": checked["summary"]}
        label = f"RL-{int(_number(order_id)[3:]) * 7 % 1_000_000:06d}"
        change.database.execute("INSERT INTO returns VALUES (?, ?, ?)", (checked["number"], label, call.key))
        return change.done(
            f"Your return label {label} for order {checked['number']} is on its way to your e-mail address. "
            "Drop the parcel at any NordPaket shop within 14 days."
        )


@reads(hidden=True)
def can_refund(order_id: OrderNumber, amount: Euros, customer: Customer) -> dict[str, Any]:
    """Whether so much of an order can be refunded."""
    with _orders() as database:
        order = _order(database, customer, order_id)
        if order is None:
            return {"found": False, "summary": NOT_YOURS}
        if order["status"] not in ("delivered", "returned"):
            return _no(f"{_say_status(order)} A refund is possible once an order is delivered or has come back.")
        spent = database.execute(
            "SELECT coalesce(sum(cents), 0) FROM refunds WHERE order_id = ?", (order["id"],)
        ).fetchone()[0]
        left = order["total_cents"] - spent
        if round(amount * 100) > left:
            return _no(f"At most {_euros(left)} of your order {order['id']} can be refunded.")
        return {"ok": True, "number": order["id"], "sum": _euros(round(amount * 100)), "payment": order["payment"]}


@writes(ask="Shall I refund {sum} of your order {number} to your payment method ({payment})?", check="can_refund")
def refund(order_id: OrderNumber, amount: Euros, customer: Customer, call: Context) -> dict[str, Any]:
    """Refund part or all of what was paid for an order, for example for a damaged item or a late delivery."""
    with _change(call) as change:
        if change.before is not None:
            return change.before
        checked = can_refund(order_id, amount, customer)
        if not checked.get("ok"):
            return {"error": checked["summary"]}
        change.database.execute(
            "INSERT INTO refunds VALUES (?, ?, ?)", (call.key, checked["number"], round(amount * 100))
        )
        return change.done(
            f"{checked['sum']} of your order {checked['number']} go back to your payment method ({checked['payment']})."
        )


# --- the database ----------------------------------------------------------------------------------------------------


class Change:
    """A change under way. ``before`` is the result of the same change done earlier, None the first time."""

    def __init__(self, database: sqlite3.Connection, key: str) -> None:
        self.database = database
        self.key = key
        row = database.execute("SELECT result FROM done WHERE key = ?", (key,)).fetchone()
        self.before: dict[str, Any] | None = json.loads(row["result"]) if row is not None else None

    def done(self, summary: str) -> dict[str, Any]:
        """Keep the result with the change, in the same transaction."""
        result = {"summary": summary}
        self.database.execute("INSERT INTO done VALUES (?, ?)", (self.key, json.dumps(result)))
        return result


@contextmanager
def _change(call: Context) -> Iterator[Change]:
    """One transaction; what has the same key is done once."""
    if not call.key:
        raise ValueError("a change needs a key")
    with closing(sqlite3.connect(_kept(_today()), timeout=5, isolation_level=None)) as database:
        database.row_factory = sqlite3.Row
        database.execute("BEGIN IMMEDIATE")
        try:
            yield Change(database, call.key)
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


@contextmanager
def _orders() -> Iterator[sqlite3.Connection]:
    """The orders as they are now, to read."""
    day = _today()
    path = _path_of(day)
    kept = path.exists()
    with closing(sqlite3.connect(f"file:{path}?mode=ro" if kept else ":memory:", uri=kept, timeout=5)) as database:
        if not kept:
            database.deserialize(_made(day))
            database.execute("PRAGMA query_only = ON")
        database.row_factory = sqlite3.Row
        yield database


def _today() -> date:
    """The day it is in the shop. The orders are dated from it, so none of them is ever overdue by months."""
    said = os.environ.get(TODAY, "")
    return date.fromisoformat(said) if said else datetime.now(SHOP_TIME).date()


def _path_of(day: date) -> Path:
    return DATA / f"working-{day}.sqlite"


def _kept(day: date) -> Path:
    """The file with the orders of a day. The first change of a day makes it and drops those of other days."""
    path = _path_of(day)
    if not path.exists():
        for old in DATA.glob("working-*.sqlite*"):
            if not old.name.startswith(path.name):
                old.unlink(missing_ok=True)
        fresh = DATA / f".{path.name}.{os.getpid()}"
        fresh.write_bytes(_made(day))
        try:
            os.link(fresh, path)  # fails if somebody was first; then theirs counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path


@lru_cache(maxsize=1)
def _made(day: date) -> bytes:
    """The orders as of a day, from make_orders.py beside this file: a database as SQLite would write it."""
    found = importlib.util.spec_from_file_location("make_orders", Path(__file__).with_name("make_orders.py"))
    if found is None or found.loader is None:
        raise ImportError("make_orders.py cannot be read")
    maker = importlib.util.module_from_spec(found)
    found.loader.exec_module(maker)
    with closing(sqlite3.connect(":memory:")) as database:
        maker.fill(database, day)
        database.commit()
        return database.serialize()


def _number(order_id: str) -> str:
    return f"TT-{re.sub(r'[^0-9]', '', order_id)}"


def _order(database: sqlite3.Connection, customer: Customer, order_id: str) -> sqlite3.Row | None:
    """The customer's order with this number; without a number the only one that can be meant."""
    mine = "SELECT * FROM orders WHERE customer = ?"
    if order_id:
        row: sqlite3.Row | None = database.execute(f"{mine} AND id = ?", (customer.id, _number(order_id))).fetchone()
        return row
    rows = database.execute(mine, (customer.id,)).fetchall()
    under_way = [row for row in rows if row["status"] in OPEN]
    found = under_way or rows
    return found[0] if len(found) == 1 else None


def _which(database: sqlite3.Connection, customer: Customer) -> dict[str, Any]:
    """The question which of several orders is meant."""
    rows = database.execute(
        "SELECT id, placed, status FROM orders WHERE customer = ? ORDER BY placed DESC LIMIT 5", (customer.id,)
    ).fetchall()
    if not rows:
        return {"found": False, "summary": "I cannot find any order of yours."}
    told = "; ".join(f"{row['id']} of {_day(row['placed'])} ({row['status']})" for row in rows)
    return {"found": True, "summary": f"You have more than one order with us: {told}."}


def _no(summary: str) -> dict[str, Any]:
    return {"ok": False, "summary": summary}


def _holiday_limit(placed: date) -> date:
    """Orders from 1 November to 24 December can be returned until 31 January."""
    if (11, 1) <= (placed.month, placed.day) <= (12, 24):
        return date(placed.year + 1, 1, 31)
    return date.min


def _card(database: sqlite3.Connection, order: sqlite3.Row) -> dict[str, Any]:
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
    return {"title": f"Order {order['id']}", "rows": rows}


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


# --- opening hours ---------------------------------------------------------------------------------------------------

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
