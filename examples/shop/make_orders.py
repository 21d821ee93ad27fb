"""Makes the orders of the example shop: the same customers and orders every time, dated from a day.

Everything is invented. Mail addresses end in the domains reserved for examples (RFC 2606), phone numbers come from
ranges that the regulators of Germany, the United Kingdom, France and Ireland keep free for films and books. `tools.py`
makes them afresh each day, dated from it, so that a parcel "arrives today" on whatever day the example is looked at.

    python make_orders.py FILE                     the orders as of today, as a SQLite database, to look at
    python make_orders.py FILE --day 2026-11-20    as of another day
"""

from __future__ import annotations

import argparse
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

SEED = 20261120
CUSTOMERS = 160
ORDERS = 300

SCHEMA = """
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, phone TEXT NOT NULL,
    street TEXT NOT NULL, postcode TEXT NOT NULL, city TEXT NOT NULL, country TEXT NOT NULL, level TEXT NOT NULL);
CREATE TABLE orders (
    id TEXT PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers (id), placed TEXT NOT NULL,
    status TEXT NOT NULL, payment TEXT NOT NULL, service TEXT NOT NULL, carrier TEXT NOT NULL, tracking TEXT NOT NULL,
    expected TEXT, delivered TEXT, items_cents INTEGER NOT NULL, delivery_cents INTEGER NOT NULL,
    discount_cents INTEGER NOT NULL, total_cents INTEGER NOT NULL);
CREATE TABLE items (
    order_id TEXT NOT NULL REFERENCES orders (id), position INTEGER NOT NULL, article TEXT NOT NULL,
    variant TEXT NOT NULL, quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)) WITHOUT ROWID;
CREATE TABLE events (
    order_id TEXT NOT NULL REFERENCES orders (id), time TEXT NOT NULL, place TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (order_id, time)) WITHOUT ROWID;
CREATE TABLE addresses (order_id TEXT PRIMARY KEY REFERENCES orders (id), address TEXT NOT NULL);
CREATE TABLE returns (order_id TEXT PRIMARY KEY REFERENCES orders (id), label TEXT NOT NULL, key TEXT NOT NULL);
CREATE TABLE refunds (
    key TEXT PRIMARY KEY, order_id TEXT NOT NULL REFERENCES orders (id), cents INTEGER NOT NULL);
CREATE TABLE done (key TEXT PRIMARY KEY, result TEXT NOT NULL);
"""

FIRST_NAMES = (
    "Ada Aino Alba Amara Anouk Astrid Basil Bela Carlo Chiara Clara Dario Deniz Edda Eirik Elif Emil Enno Farida "
    "Felix Fenna Gaia Gero Greta Hana Hugo Ida Ilse Imre Ines Ivo Jana Jaro Joris Juna Kaja Kofi Lale Lasse "
    "Leonie Levin Lina Luca Maeve Malik Marta Mats Mila Mira Nadim Nele Niamh Nils Noor Odin Olga Oskar Paolo "
    "Pia Quirin Rana Ravi Romy Runa Samir Selma Silas Sofie Sven Tamsin Theo Tilda Uma Vera Viggo Wanda Wim Yara "
    "Yusuf Zoe"
)
LAST_NAMES = (
    "Abend Achterberg Adeyemi Ambros Anker Arbour Bakker Balint Bergamin Birke Blomqvist Bracken Brandt Calloway "
    "Castell Czerny Dahlke Delacroix Demir Drexler Ellersby Engstrom Falk Farrow Fennel Ferrante Gallo Gerlach "
    "Gorski Grunwald Haddad Hallam Heidkamp Holm Ilves Jansson Kalinin Karga Kessel Kowal Laurent Lindqvist "
    "Lorne Madder Marchetti Meerbach Mertens Mulgrew Nadar Nordby Okafor Olander Osei Pallas Perrin Quast Quinn "
    "Rahimi Reuter Rossi Rowan Sadek Sander Sorel Stolz Sundby Tanner Tessier Thorne Uhl Vandamme Varga Vesper "
    "Weidner Wolkow Yildiz Zander Zeman"
)
STREETS = (
    "Ahornweg Bachgasse Birkenallee Dorfstrasse Eichenring Feldweg Gartenstrasse Hafenkai Kirchplatz Lindenhof "
    "Mühlsteig Ostwall Quellenweg Rosengang Seestrasse Turmgasse Uferpromenade Waldrand Wiesengrund Ziegelei"
)
COUNTRIES = {  # share, delivery cost in cents, free from (cents), days, express cost (0: none), cities
    "Germany": (60, 490, 6000, 3, 990, [("Bremen", "28195"), ("Leipzig", "04109"), ("Ulm", "89073")]),
    "Austria": (12, 590, 8000, 4, 1490, [("Graz", "8010"), ("Linz", "4020")]),
    "Netherlands": (8, 690, 8000, 4, 1490, [("Utrecht", "3511 AB"), ("Zwolle", "8011 AA")]),
    "France": (7, 790, 10000, 5, 1690, [("Lyon", "69001"), ("Nantes", "44000")]),
    "United Kingdom": (5, 1390, 15000, 8, 2490, [("Leeds", "LS1 1AA"), ("Bath", "BA1 1AA")]),
    "Switzerland": (5, 1290, 15000, 6, 0, [("Bern", "3011"), ("Chur", "7000")]),
    "Ireland": (3, 1090, 12000, 7, 2190, [("Galway", "H91 AAAA"), ("Cork", "T12 AAAA")]),
}
ARTICLES = [  # name, price in cents, variants
    ("Tarn Heron 2 tent", 27900, ["moss", "slate"]),
    ("Tarn Heron 1 tent", 21900, ["moss"]),
    ("Tarn Otter 3 tent", 34900, ["slate", "ochre"]),
    ("Fell 3 sleeping bag", 18900, ["regular", "long", "short"]),
    ("Drift sleeping mat", 7900, ["regular", "wide"]),
    ("Beck 45 backpack", 14900, ["S", "M", "L"]),
    ("Beck 22 day pack", 6900, ["rust", "navy"]),
    ("Cairn hiking boots", 16900, ["38", "39", "40", "41", "42", "43", "44"]),
    ("Scree rain jacket", 17900, ["S", "M", "L", "XL"]),
    ("Hearth down jacket", 21900, ["S", "M", "L"]),
    ("Ridge merino shirt", 5900, ["S", "M", "L", "XL"]),
    ("Wool walking socks", 1690, ["36–38", "39–41", "42–44"]),
    ("Waxed cotton jacket", 15900, ["M", "L"]),
    ("Glow 400 headlamp", 4490, ["black"]),
    ("Wick camp lantern", 3990, ["brass", "black"]),
    ("Spark gas stove", 4990, ["one size"]),
    ("Gas canister 230 g", 690, ["EN 417"]),
    ("Tinder cast-iron pan 26 cm", 5490, ["26 cm"]),
    ("Tinder dutch oven 4 l", 8990, ["4 l"]),
    ("Tinder fire bowl", 12900, ["60 cm"]),
    ("Enamel mug", 1290, ["cream", "pine", "night"]),
    ("Enamel plate set", 3290, ["cream", "pine"]),
    ("Loden wool blanket", 8900, ["grey", "bramble"]),
    ("Linen tea towels, set of 3", 2190, ["natural"]),
    ("Beeswax candles, set of 4", 1590, ["honey"]),
    ("Folding axe", 4790, ["ash handle"]),
    ("Steel bottle 1 l", 2690, ["pine", "steel"]),
]
PAYMENTS: tuple[str, ...] = (
    "card",
    "card",
    "PayPal",
    "PayPal",
    "invoice",
    "SEPA direct debit",
    "Apple Pay",
    "bank transfer",
)
STATUSES = (  # share, status
    (7, "received"),
    (5, "packed"),
    (14, "shipped"),
    (6, "out for delivery"),
    (52, "delivered"),
    (9, "returned"),
    (7, "cancelled"),
)


class Customer(NamedTuple):
    """A row of ``customers``."""

    id: int
    name: str
    email: str
    phone: str
    street: str
    postcode: str
    city: str
    country: str
    level: str


class Fixed(NamedTuple):
    """An order that the documentation and the tests speak of by number."""

    id: str
    name: str
    email: str
    status: str
    days_ago: int


FIXED = (
    Fixed("TT-482913", "Mira Holm", "mira.holm@example.com", "shipped", 3),
    Fixed("TT-730158", "Theo Calloway", "theo.calloway@example.org", "received", 0),
    Fixed("TT-215604", "Selma Rahimi", "selma.rahimi@example.com", "delivered", 9),
    Fixed("TT-964077", "Joris Bakker", "joris.bakker@example.net", "out for delivery", 4),
    Fixed("TT-358841", "Niamh Quinn", "niamh.quinn@example.org", "returned", 27),
    Fixed("TT-601392", "Emil Brandt", "emil.brandt@example.com", "cancelled", 12),
)


def main(path: Path, today: date) -> None:
    """Write the database to ``path``, replacing what is there; the newest orders are of ``today``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        fill(connection, today)


def fill(connection: sqlite3.Connection, today: date) -> None:
    """Create the tables in an empty database and fill them."""
    dice = random.Random(SEED)
    connection.executescript(SCHEMA)
    customers = list(make_customers(dice))
    connection.executemany(f"INSERT INTO customers VALUES ({', '.join('?' * 9)})", customers)  # noqa: S608 (constant)
    taken = {fixed.id for fixed in FIXED}
    for number in range(ORDERS):
        if number < len(FIXED):
            fixed = FIXED[number]
            make_order(connection, dice, fixed.id, customers[number], fixed.status, today, fixed.days_ago)
            continue
        order_id = f"TT-{dice.randrange(100_000, 1_000_000)}"
        while order_id in taken:
            order_id = f"TT-{dice.randrange(100_000, 1_000_000)}"
        taken.add(order_id)
        status = dice.choices([name for _, name in STATUSES], weights=[share for share, _ in STATUSES])[0]
        make_order(connection, dice, order_id, dice.choice(customers), status, today, days_since(dice, status))


def make_customers(dice: random.Random) -> Iterator[Customer]:
    """Customers, those of FIXED first. Names do not repeat, so e-mail addresses do not either."""
    fixed_names = [(fixed.name, fixed.email) for fixed in FIXED]
    known = {name for name, _ in fixed_names}
    for number in range(CUSTOMERS):
        if number < len(fixed_names):
            name, email = fixed_names[number]
        else:
            name = f"{dice.choice(FIRST_NAMES.split())} {dice.choice(LAST_NAMES.split())}"
            while name in known:
                name = f"{dice.choice(FIRST_NAMES.split())} {dice.choice(LAST_NAMES.split())}"
            known.add(name)
            email = f"{name.lower().replace(' ', '.')}@example.{dice.choice(['com', 'org', 'net'])}"
        country = dice.choices(list(COUNTRIES), weights=[row[0] for row in COUNTRIES.values()])[0]
        if number < len(fixed_names):
            country = "Germany"
        city, postcode = dice.choice(COUNTRIES[country][5])
        level = dice.choices(["none", "Spark", "Ember", "Blaze"], weights=[45, 30, 18, 7])[0]
        street = f"{dice.choice(STREETS.split())} {dice.randrange(1, 120)}"
        yield Customer(number + 1, name, email, phone_number(dice, country), street, postcode, city, country, level)


def phone_number(dice: random.Random, country: str) -> str:
    """A number from a range reserved for fiction; empty where there is none or the customer gave none."""
    if country == "Germany":
        return f"+49 171 39200{dice.randrange(100):02d}"
    if country == "United Kingdom":
        return f"+44 7700 900{dice.randrange(1000):03d}"
    if country == "France":
        return f"+33 6 39 98 {dice.randrange(100):02d} {dice.randrange(100):02d}"
    if country == "Ireland":
        return f"+353 20 91{dice.randrange(10)} {dice.randrange(10_000):04d}"
    return ""


def days_since(dice: random.Random, status: str) -> int:
    """How many days ago an order in this status was placed."""
    low, high = {
        "received": (0, 0),
        "packed": (0, 1),
        "shipped": (1, 4),
        "out for delivery": (2, 7),
        "delivered": (14, 200),
        "returned": (28, 220),
        "cancelled": (2, 200),
    }[status]
    return dice.randint(low, high)


def make_order(
    connection: sqlite3.Connection,
    dice: random.Random,
    order_id: str,
    customer: Customer,
    status: str,
    today: date,
    days_ago: int,
) -> None:
    """Insert one order with its items and its events."""
    _, standard_cents, free_from, days, express_cents, _ = COUNTRIES[customer.country]
    articles = [row for row in ARTICLES if customer.country == "Germany" or not row[0].startswith("Gas")]
    chosen = dice.sample(articles, k=dice.choices([1, 2, 3, 4], weights=[45, 30, 17, 8])[0])
    lines = []
    for name, cents, variants in chosen:
        quantity = dice.choices([1, 2, 3], weights=[80, 15, 5])[0] if cents < 6000 else 1
        lines.append((name, dice.choice(variants), quantity, cents))
    items_cents = sum(quantity * cents for _, _, quantity, cents in lines)
    canisters = any(name.startswith("Gas") for name, *_ in lines)
    express = express_cents > 0 and not canisters and dice.random() < 0.15 and status != "shipped"
    member = customer.country == "Germany" and customer.level in {"Ember", "Blaze"}
    delivery_cents = express_cents if express else 0 if member or items_cents >= free_from else standard_cents
    discount_cents = items_cents // 10 if items_cents >= 5000 and dice.random() < 0.12 else 0
    placed = at(today - timedelta(days=days_ago), 6) + timedelta(minutes=dice.randrange(6 * 60))
    leaves = placed.date() if placed.weekday() < 5 else working_day_after(placed.date(), 1)
    expected = working_day_after(leaves, 1 if express else days)
    if status == "out for delivery":
        expected = today
    events = list(make_events(status, placed, leaves, expected, customer.city))
    shipped = status in {"shipped", "out for delivery", "delivered", "returned"}
    delivered = next((moment.date() for moment, _, text in events if text == "Delivered"), None)
    tracking = f"{'BK' if express else 'NP'}{dice.randrange(10**9):09d}{customer.country[:2].upper()}"
    payments = PAYMENTS
    if items_cents > 30_000 or customer.country not in {"Germany", "Austria"}:  # no invoice, no direct debit
        payments = ("card", "PayPal", "bank transfer")
    connection.execute(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            order_id,
            customer.id,
            placed.isoformat(sep=" ", timespec="minutes"),
            status,
            dice.choice(payments),
            "express" if express else "standard",
            "Blitzkurier" if express else "NordPaket",
            tracking if shipped else "",
            None if status == "cancelled" else expected.isoformat(),
            delivered.isoformat() if delivered else None,
            items_cents,
            delivery_cents,
            discount_cents,
            items_cents + delivery_cents - discount_cents,
        ),
    )
    connection.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)",
        [(order_id, position, *line) for position, line in enumerate(lines, start=1)],
    )
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?)",
        [(order_id, moment.isoformat(sep=" ", timespec="minutes"), place, text) for moment, place, text in events],
    )


def make_events(
    status: str, placed: datetime, leaves: date, arrives: date, city: str
) -> Iterator[tuple[datetime, str, str]]:
    """What happened to an order, in order of time: (time, place, text)."""
    yield placed, "online", "Order received"
    if status == "received":
        return
    if status == "cancelled":
        yield placed + timedelta(minutes=47), "online", "Order cancelled"
        return
    yield at(leaves, 13), "Lüneburg", "Packed"
    if status == "packed":
        return
    yield at(leaves, 17), "Lüneburg", "Handed to the carrier"
    yield at(leaves, 23), "Hannover", "Sorted in the parcel centre"
    if status == "shipped":
        return
    yield at(arrives, 7), city, "In the delivery van"
    if status == "out for delivery":
        return
    yield at(arrives, 14), city, "Delivered"
    if status == "returned":
        yield at(arrives + timedelta(days=6), 11), city, "Return dropped off"
        yield at(working_day_after(arrives + timedelta(days=6), 3), 10), "Lüneburg", "Return checked"


def at(day: date, hour: int) -> datetime:
    """That hour of that day."""
    return datetime.combine(day, time(hour))


def working_day_after(day: date, count: int) -> date:
    """The working day (Monday to Friday) that lies ``count`` working days after ``day``."""
    while count:
        day += timedelta(days=1)
        count -= day.weekday() < 5
    return day


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--day", type=date.fromisoformat, default=datetime.now().astimezone().date())
    options = parser.parse_args()
    main(options.path, options.day)
    print(f"{ORDERS} orders of {CUSTOMERS} customers as of {options.day} in {options.path}")
