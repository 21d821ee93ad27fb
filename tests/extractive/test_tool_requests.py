"""Hand-written requests for tools keep the level they reached; a request on a rule gets no tool."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.tool_requests import DATA, from_file, from_natural, judge_requests
from fairlead.engines.extractive.arguments import Parameter, misshapen
from fairlead.engines.extractive.tools import fill, read_tools


def test_hand_written_requests_keep_their_level() -> None:
    files = ("tools_dev.json", "tools_dev_more.json")
    tally = judge_requests([*(one for name in files for one in from_file(DATA / name)), *from_natural()])
    assert tally.n >= 350
    assert tally.right >= 0.91 * tally.n, "\n".join(tally.wrong)
    assert tally.exact >= 0.91 * tally.calls, "\n".join(tally.wrong)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("account 8800417, my reading is 48213", {"account_number": "8800417", "reading": 48213}),
        ("Meter says 10732 today. Account number: 9120044.", {"account_number": "9120044", "reading": 10732}),
        ("I want to give you a reading, account 8800417", {"account_number": "8800417"}),
        ("8800417", {"account_number": "8800417"}),
    ],
)
def test_one_number_serves_one_parameter(message: str, arguments: dict[str, Any]) -> None:
    reading = {"type": "integer", "description": "The reading of the meter"}
    assert filled({"account_number": {"type": "string"}, "reading": reading}, message) == arguments


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("from tom@example.com to lee@example.org please", ("tom@example.com", "lee@example.org")),
        ("tom@example.com is old, use lee@example.org", ("tom@example.com", "lee@example.org")),
        ("it is tom@example.com", ("tom@example.com", None)),
    ],
)
def test_two_parameters_of_a_kind_take_two_values(message: str, arguments: tuple[str, str | None]) -> None:
    found = filled({"old_email": {"type": "string"}, "new_email": {"type": "string"}}, message)
    assert (found.get("old_email"), found.get("new_email")) == arguments


@pytest.mark.parametrize(
    ("name", "message", "value"),
    [
        ("bike", "can I bring my road bike in", "road bike"),
        ("bike", "it is about the bike", None),
        ("colour", "samples in sage green to my house", "sage green"),
        ("colour", "samples please", None),
        ("problem", "it arrived with a cracked shelf", "cracked shelf"),
        ("item", "take the footstool off my order", "footstool"),
        ("item", "leave out the floor lamp pls F8080133", "floor lamp"),
        ("item", "please add two speaker stands to order HF-31311", "speaker stands"),
        ("item", "the earbuds keep falling out", "earbuds"),
        ("pet", "need an appointment for our puppy", "puppy"),
        ("pet", "need an appointment tomorrow", None),
        ("problem", "71540 turned up without the vase!", "without the vase"),
        ("reason", "the earbuds keep falling out", "keep falling out"),
        ("postcode", "whereabouts are the flowers for 70992", None),
        ("postcode", "what is delivery to 90210", "90210"),
        ("postcode", "8005 Zürich is where it should go", "8005"),
        ("voucher_code", "please send HF-30990 to my new flat", None),
        ("voucher_code", "does MISTAHOL36 still work?", "MISTAHOL36"),
        ("voucher_code", "my gift card says WREN-5520", "WREN-5520"),
        ("time", "could you come at half ten", "half ten"),
        ("time", "a quarter to three would suit me", "quarter to three"),
        ("time", "a table tonight at 8 under the name Okonkwo", "8"),
        ("time", "tomorrow at eight, six of us", "eight"),
        ("time", "at 8 Mill Lane", None),
        ("name", "a table tonight at 8 under the name Okonkwo", "Okonkwo"),
        ("reason", "please cancel H-20933, my mother has fallen ill", "my mother has fallen ill"),
        ("reason", "please cancel H-20933, my number is 0151 48291", None),
        ("iban", "new bank: DE89370400440532013000, no. 40233", "DE89370400440532013000"),
        ("booking_ref", "could you check my booking QX7L2P please?", "QX7L2P"),
        ("product", "price for 1000 business cards", "business cards"),
        ("product", "twenty posters, what do they cost", "posters"),
        ("address", "Hafenkai 12, 28195 Bremen please", "Hafenkai 12, 28195 Bremen"),
        ("date", "can it come on Saturday 14 June?", "Saturday 14 June"),
        ("date", "is it open 24/7", None),
        ("when", "ring me on 01632 960114 this afternoon", "this afternoon"),
        ("when", "tomorrow after 4pm suits me", "tomorrow after 4pm"),
        ("address", "send it to 48 Harcourt Terrace, Salisbury SP2 7SA", "48 Harcourt Terrace, Salisbury SP2 7SA"),
        ("address", "Unit 4, Canal Wharf, Leeds LS11 5PS", "Unit 4, Canal Wharf, Leeds LS11 5PS"),
        ("size", "I picked M but I need an L", "L"),
        ("size", "an L instead of an M please", "L"),
    ],
)
def test_words_of_the_customer_for_what_has_no_type(name: str, message: str, value: str | None) -> None:
    assert filled({name: {"type": "string"}}, message).get(name) == value


@pytest.mark.parametrize(
    ("message", "amount"),
    [("refund 19 euros", 19), ("refund 19.50 €", 19.5), ("refund €7", 7), ("refund 1e9 euros", None), ("1e9", None)],
)
def test_a_part_of_a_number_is_no_amount(message: str, amount: float | None) -> None:
    assert filled({"amount": {"type": "number", "description": "The amount in euros"}}, message).get("amount") == amount


def test_what_is_to_be_written_is_quoted_or_asked_for() -> None:
    words = {"text": {"type": "string", "description": "The new words"}}
    assert filled(words, 'the card should say "Happy 40th, love from us"') == {"text": "Happy 40th, love from us"}
    assert filled(words, "I want other words on the card") == {}
    assert filled({"question": {"type": "string"}}, "is it waterproof?") == {"question": "is it waterproof?"}


def test_digits_of_an_order_number_are_no_price() -> None:
    properties = {"order": {"type": "string"}, "price": {"type": "number"}}
    assert filled(properties, "can I have the boots in 4410-616 a size bigger") == {"order": "4410-616"}
    assert filled(properties, "4410-616 is £84.50 elsewhere") == {"order": "4410-616", "price": 84.5}


def test_a_colour_of_its_own_is_no_part_of_the_product() -> None:
    properties = {"product": {"type": "string"}, "colour": {"type": "string"}}
    assert filled(properties, "are there any white Wren radios left?") == {"product": "Wren radios", "colour": "white"}
    assert filled({"product": {"type": "string"}}, "any white Wren radios left?") == {"product": "white Wren radios"}


def test_of_choices_the_one_with_an_idea_of_its_own_is_taken() -> None:
    reason = {"reason": {"type": "string", "enum": ["does not fit", "damaged", "wrong item", "changed my mind"]}}
    assert filled(reason, "the zip was broken when it came, I am returning it") == {"reason": "damaged"}


def filled(properties: dict[str, Any], message: str) -> dict[str, Any]:
    function = {"name": "do_it", "parameters": {"properties": properties, "required": list(properties)}}
    return fill(read_tools([{"type": "function", "function": function}])[0], 1.0, [message], asked=None).arguments


def test_what_the_rules_say_is_no_request() -> None:
    asked = [one for one in from_file(DATA / "tools_dev.json") if not one.tool]
    tally = judge_requests(asked)
    assert tally.n >= 50
    assert tally.right >= 0.85 * tally.n, "\n".join(tally.wrong)


ORDER = {
    "type": "string",
    "description": "The order number: TT and six digits",
    "pattern": "^[Tt]{0,2}[ -]?[0-9]{6}$",
    "examples": ["TT-482913"],
}


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("482913", "482913"),
        ("tt 482913", "482913"),
        ("where is order #482913?", "482913"),
        ("it's TT482913.", "TT482913"),
        ("not TT-482914, TT-482913", "TT-482913"),
        ("in 2024 I ordered 482913", "482913"),
        ("my order TT-10482", None),
        ("my phone is 0151 482913", None),
        ("call +49 40 482913", None),
        ("postcode 482913", None),
        ("my customer number is 482913", None),
        ("it cost 482913 euros", None),
        ("since 202420", "202420"),
    ],
)
def test_a_number_of_the_right_form_is_an_order_number_unless_it_is_called_something_else(
    message: str, value: str | None
) -> None:
    assert filled({"order_id": ORDER}, message).get("order_id") == value


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("when will my order TT-10482 arrive?", "TT-10482"),
        ("where is order 10482?", "10482"),
        ("where are my 200 candles?", ""),
        ("my phone is 0151 48291", ""),
        ("I paid 120 euros in 2024", ""),
    ],
)
def test_a_number_of_another_form_is_named_where_it_is_meant_for_one(message: str, named: str) -> None:
    parameter = Parameter("order_id", ORDER, True)
    assert misshapen(parameter, message, asked=False) == named


@pytest.mark.parametrize(
    ("message", "count"),
    [("another dozen please", 12), ("two hundred of them", 200), ("twenty posters", 20), ("I need a hundred", 100)],
)
def test_a_quantity_is_read_from_words(message: str, count: int) -> None:
    assert filled({"quantity": {"type": "integer"}}, message) == {"quantity": count}
