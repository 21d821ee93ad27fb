"""A shop of the same shape as the benchmark's, made up here: two products, three customers, five orders, six tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tau2_retail.tasks import Data, load

POLICY = """# Policy of the lamp shop

Recognise the customer first, by e-mail address or by name and zip code. Only pending orders can be cancelled or
changed, only delivered orders can be returned or exchanged. Ask before every change. Tell prices as they are.
"""


def variant(item: str, price: float, *, available: bool = True, **options: str) -> dict[str, Any]:
    return {"item_id": item, "options": options, "available": available, "price": price}


LAMP = {
    "name": "Desk Lamp",
    "product_id": "9001",
    "variants": {
        "101": variant("101", 40.5, color="white", power="AC"),
        "102": variant("102", 55.25, color="black", power="USB"),
        "103": variant("103", 30.1, color="red", power="battery"),
        "104": variant("104", 20.0, available=False, color="green", power="AC"),
    },
}
KETTLE = {
    "name": "Kettle",
    "product_id": "9002",
    "variants": {
        "201": variant("201", 25.0, material="glass"),
        "202": variant("202", 35.75, material="steel"),
    },
}


def address(street: str, zip_code: str) -> dict[str, str]:
    return {"address1": street, "address2": "", "city": "Chicago", "state": "IL", "country": "USA", "zip": zip_code}


def user(identifier: str, first: str, last: str, zip_code: str, orders: list[str], **cards: float) -> dict[str, Any]:
    number = identifier.rpartition("_")[2]
    methods: dict[str, Any] = {
        f"credit_card_{number}": {
            "source": "credit_card", "id": f"credit_card_{number}", "brand": "visa", "last_four": "1111",
        },
        **{name: {"source": "gift_card", "id": name, "balance": balance} for name, balance in cards.items()},
    }  # fmt: skip
    return {
        "user_id": identifier,
        "name": {"first_name": first, "last_name": last},
        "address": address("1 Elm Street", zip_code),
        "email": f"{first}.{last}{number}@example.com".lower(),
        "payment_methods": methods,
        "orders": orders,
    }


def order(number: str, whose: str, status: str, method: str, *items: tuple[dict[str, Any], str]) -> dict[str, Any]:
    held = [
        {"name": product["name"], "product_id": product["product_id"], **_without(product["variants"][item])}
        for product, item in items
    ]
    total = round(sum(item["price"] for item in held), 2)
    sent = [{"tracking_id": ["555000111"], "item_ids": [item["item_id"] for item in held]}]
    return {
        "order_id": number,
        "user_id": whose,
        "address": address("1 Elm Street", "60601"),
        "items": held,
        "status": status,
        "fulfillments": [] if status == "pending" else sent,
        "payment_history": [{"transaction_type": "payment", "amount": total, "payment_method_id": method}],
    }


def _without(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("item_id", "price", "options")}


ADA, BEN, CY = "ada_moss_11", "ben_lake_22", "cy_hill_33"


def content() -> dict[str, dict[str, Any]]:
    """Fresh documents by kind and id, as in db.json."""
    users = [
        user(ADA, "Ada", "Moss", "60601", ["#W1", "#W2", "#W5"], gift_card_1=10.0),
        user(BEN, "Ben", "Lake", "60602", ["#W3"], gift_card_2=100.0),
        user(CY, "Cy", "Hill", "60603", ["#W4"]),
    ]
    orders = [
        order("#W1", ADA, "pending", "credit_card_11", (LAMP, "101"), (KETTLE, "201")),
        order("#W2", ADA, "delivered", "credit_card_11", (LAMP, "101"), (LAMP, "101")),
        order("#W3", BEN, "pending", "gift_card_2", (LAMP, "102")),
        order("#W4", CY, "delivered", "credit_card_33", (KETTLE, "202")),
        order("#W5", ADA, "cancelled", "credit_card_11", (KETTLE, "201")),
    ]
    copied: dict[str, dict[str, Any]] = json.loads(
        json.dumps(
            {
                "products": {"9001": LAMP, "9002": KETTLE},
                "users": {each["user_id"]: each for each in users},
                "orders": {each["order_id"]: each for each in orders},
            }
        )
    )
    return copied


def task(number: str, reason: str, known: str, *actions: tuple[str, dict[str, Any]], say: tuple[str, ...] = ()) -> Any:
    return {
        "id": number,
        "user_scenario": {"instructions": {"reason_for_call": reason, "known_info": known, "task_instructions": "."}},
        "evaluation_criteria": {
            "actions": [{"name": name, "arguments": arguments} for name, arguments in actions],
            "communicate_info": list(say),
        },
    }


FIND_BEN = ("find_user_id_by_name_zip", {"first_name": "Ben", "last_name": "Lake", "zip": "60602"})
TASKS = [
    task(
        "cancel", "You want to cancel your order #W3 and know what you get back.", "You are Ben Lake in zip 60602.",
        FIND_BEN, ("get_order_details", {"order_id": "#W3"}), ("calculate", {"expression": "50 + 5.25"}),
        ("cancel_pending_order", {"order_id": "#W3", "reason": "ordered by mistake"}), say=("55.25",),
    ),
    task(
        "exchange", "You want both lamps of #W2 in other colors.", "You are Ada, ada.moss11@example.com.",
        ("exchange_delivered_order_items", {
            "order_id": "#W2", "item_ids": ["101", "101"], "new_item_ids": ["103", "102"],
            "payment_method_id": "credit_card_11",
        }),
    ),
    task(
        "move", "You moved and want your order and your profile to follow.", "You are Ada Moss in zip 60601.",
        ("modify_pending_order_address", {"order_id": "#W1", **address("9 Oak Road", "60699")}),
        ("modify_user_address", {"user_id": ADA, **address("9 Oak Road", "60699")}),
    ),
    task(
        "change", "You want the steel kettle instead.", "You are Ada Moss in zip 60601.",
        ("modify_pending_order_items", {
            "order_id": "#W1", "item_ids": ["201"], "new_item_ids": ["202"], "payment_method_id": "credit_card_11",
        }),
    ),
    task(
        "return", "You want to send the kettle back.", "You are Cy Hill in zip 60603.",
        ("return_delivered_order_items", {
            "order_id": "#W4", "item_ids": ["202"], "payment_method_id": "credit_card_33",
        }),
    ),
    task(
        "ask", "You want to know how many sorts of kettles there are, and the number of your parcel.",
        "You are Cy Hill in zip 60603.", say=("555000111", "2", "steel"),
    ),
]  # fmt: skip


def write(folder: Path) -> Path:
    """The data as files below ``folder``, which is what FAIRLEAD_DATA may name."""
    place = folder / "tau2_retail"
    place.mkdir()
    (place / "db.json").write_text(json.dumps(content()))
    (place / "policy.md").write_text(POLICY)
    (place / "tasks_train.json").write_text(json.dumps(TASKS))
    return folder


def data(folder: Path) -> Data:
    """The data, read as the benchmark reads its own."""
    return load(write(folder) / "tau2_retail")
