"""Names, places and values of the invented shops, and which of them only ever appear in evaluation.

A *slot* is a placeholder in a wording, such as `{money}` or `{days2}`; digits at its end only tell two of a kind
apart. `fill_slot` draws a value. Held out by rule, so that no list has to be kept: shop and tool names by hash,
amounts and counts by remainder, wordings by hash.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Literal

Split = Literal["train", "shops", "wordings"]
"""`train`; `shops`: new shops, names and numbers in trained wordings; `wordings`: new wordings as well."""

_SYLLABLES = (
    "ar bel cor dun el fen gal hol is jor kel lum mar nor ol pel quin ros sol tam ul ver wil yar zen bra cla dre fro "
    "gle hu kri lo mi na per ru sta tri va dor esk fi gra hen jo ka len mo nu opa pri ri sen tu vik wo"
).split()
_FIRST = (
    "Amber Bramble Bright Cedar Chestnut Clover Cobalt Copper Cosy Crimson Dapper Ember Fern Foggy Gentle Golden "
    "Harbour Hazel Honey Humble Indigo Iron Ivory Juniper Lively Lunar Maple Marble Meadow Merry Misty Mossy Nimble "
    "North Oak Olive Orchard Pepper Pine Plum Quiet River Rustic Saffron Silver Snowy Spruce Stone Sunny Swift Thistle "
    "Tidal Velvet Violet Wild Willow"
).split()
_SECOND = (
    "Anchor Attic Barn Basket Bay Bench Boat Box Button Cabin Cart Cellar Corner Cottage Counter Cup Dock Drawer Field "
    "Finch Forge Fox Gate Goods Hare Harvest Hill House Kettle Kiosk Lamp Lane Lantern Larder Leaf Loft Loom Market "
    "Mill Needle Nest Otter Owl Paddle Pantry Path Peak Pocket Robin Shed Shelf Spoon Stall Studio Supply Thread Trail "
    "Trunk Wagon Wheel Workshop Wren Yard"
).split()
PRODUCTS = (
    "jacket,pair of boots,backpack,tent,sleeping bag,desk lamp,armchair,bookcase,sofa,mattress,rug,kettle,teapot,"
    "mixer,toaster,coffee machine,saucepan,headphones,loudspeaker,keyboard,monitor,phone,tablet,charger,watch,router,"
    "bicycle,helmet,saddle,scooter,dog basket,cat tree,aquarium,face cream,shampoo,perfume,soap,puzzle,board game,"
    "doll,train set,teddy bear,dress,shirt,pair of jeans,jumper,scarf,raincoat,belt,lawn mower,garden hose,rake,"
    "novel,cookbook,notebook,fountain pen,calendar,drill,hammer,ladder,necklace,ring,bracelet,pair of sunglasses,"
    "yoga mat,rowing machine,football,racket,guitar,violin,microphone,vase,candle,mirror,curtain,pillow,blanket,"
    "clock,printer,camera,tripod,vacuum cleaner,heater,fan,suitcase,umbrella,knife set,bed frame,wardrobe,hair dryer,"
    "razor,stroller,car seat"
).split(",")
_CITIES = (
    "Aarhus Antwerp Basel Bath Bergen Bologna Bonn Bristol Cork Dresden Exeter Florence Galway Ghent Graz Hamburg "
    "Leeds Leipzig Linz Lisbon Lyon Malmo Mainz Nantes Oslo Padua Porto Riga Salzburg Seville Tartu Turin Utrecht "
    "Vienna York"
).split()
_COUNTRIES = (
    "Austria Belgium Canada Croatia Denmark Estonia Finland France Germany Greece Hungary Iceland Ireland Italy Japan "
    "Latvia Mexico Norway Poland Portugal Slovakia Slovenia Spain Sweden Switzerland"
).split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = "January February March April May June July August September October November December".split()
_PAYMENTS = (
    "PayPal,Visa,Mastercard,Klarna,Apple Pay,Google Pay,bank transfer,invoice,direct debit,American Express,gift card,"
    "cash on delivery"
).split(",")
_COLOURS = "red blue green black white grey brown yellow navy beige pink purple orange silver turquoise cream".split()
_MATERIALS = (
    "cotton,wool,oak,bamboo,steel,aluminium,leather,linen,glass,clay,pine,silk,rubber,cork,brass,felt,marble,nylon,"
    "recycled plastic,walnut,copper,velvet"
).split(",")
_PEOPLE = (
    "Anna Boris Clara Daniel Edith Farid Greta Hassan Ines Jonas Katja Liam Maria Nadia Oscar Petra Quentin Rosa Samir "
    "Tilda Ursula Victor Wanda Xenia Yusuf Zoe Amara Bruno Chloe Dimitri"
).split()
_STREETS = (
    "Mill Street,Harbour Road,Station Road,Church Lane,Market Square,Bridge Street,Garden Row,Castle Street,Elm Way,"
    "Tower Hill,Baker Lane,Orchard Road,River Walk,Chapel Street,School Lane,Park Avenue"
).split(",")
_SERVICES = (
    "engraving,fitting,bike check,sharpening,tailoring,assembly,photo printing,deep cleaning,tuning,waxing,ski service,"
    "battery swap,screen repair,measuring,colour consultation,framing,polishing,wheel truing,key cutting,piercing"
).split(",")
_EVENTS = (
    "sewing course,wine tasting,summer sale,reading,open day,repair evening,cooking class,concert,flea market,workshop,"
    "baking course,tasting,photo walk,children's day,book signing"
).split(",")
_ALLERGENS = "milk,nuts,gluten,soy,egg,sesame,mustard,celery,peanuts,lupin".split(",")
_CARRIERS = "Postline,Quickbox,Northway,Parcelo,Bluebird Express,Rapido,Landpost,Fleetwing".split(",")
_REASONS = (
    "too small,too big,broken,scratched,the wrong colour,the wrong size,faulty,not as described,torn,too loud,"
    "too heavy,incomplete,late"
).split(",")
_SIZES = "S,M,L,XL,XXL,XS,36,38,39,40,42,44,46".split(",")
_CURRENCIES = ("€{}", "{} €", "${}", "£{}", "{} euros", "CHF {}", "€{}")


def hashed(text: str) -> int:
    return zlib.crc32(text.encode())


def split_wordings(wordings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Trained and held-out wordings: the fifth with the smallest hashes is held out, at least one if there are two."""
    ordered = sorted(wordings, key=hashed)
    kept_back = max(1, len(ordered) // 5) if len(ordered) > 1 else 0
    held_out = set(ordered[:kept_back])
    return [w for w in wordings if w not in held_out], [w for w in wordings if w in held_out]


def pick_wording(rng: random.Random, wordings: Sequence[str], split: Split) -> str:
    trained, held_out = split_wordings(wordings)
    return rng.choice(held_out if split == "wordings" and held_out else trained)


def is_held_out_number(number: int) -> bool:
    return number % 7 == 3


def draw_number(rng: random.Random, low: int, high: int, split: Split) -> int:
    """A number that is held out if and only if the split is not `train`; `low + 7 <= high` is required."""
    while True:
        number = rng.randint(low, high)
        if is_held_out_number(number) == (split != "train"):
            return number


def draw_digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def invent_word(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()


def draw_name(rng: random.Random, split: Split, draw: Callable[[], str]) -> str:
    """A name whose hash puts it on the right side of the split."""
    while True:
        name = draw()
        if (hashed(name) % 8 == 0) == (split != "train"):
            return name


def draw_shop(rng: random.Random, split: Split) -> str:
    def draw() -> str:
        first, second = rng.choice(_FIRST), rng.choice(_SECOND)
        forms = (f"{first} {second}", f"{first} & {second}", f"The {first} {second}", f"{invent_word(rng)} {second}")
        return rng.choice((*forms, invent_word(rng), f"{invent_word(rng)} & {invent_word(rng)}"))

    return draw_name(rng, split, draw)


def draw_code(rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(2, 6)))
    return f"{letters if rng.random() < 0.5 else invent_word(rng).upper()}{rng.randint(5, 99)}"


def _join(parts: Sequence[str], last: str = "and") -> str:
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def _days(rng: random.Random, split: Split) -> str:
    unit = rng.choice(("days", "days", "days", "working days", "calendar days", "business days", "weeks"))
    return f"{draw_number(rng, 2, 14 if unit == 'weeks' else rng.choice((16, 40, 120)), split)} {unit}"


def _money(rng: random.Random, split: Split) -> str:
    whole = draw_number(rng, 1, rng.choice((20, 60, 300, 900)), split)
    cents = rng.choice(("", "", "", ".50", ".90", ".99", ".95", f".{rng.randint(1, 99):02d}"))
    return rng.choice(_CURRENCIES).format(f"{whole}{cents}")


def _span(rng: random.Random, split: Split) -> str:
    low = draw_number(rng, 1, 20, split)
    return f"{low}{rng.choice(('-', '-', ' to '))}{low + rng.randint(1, 5)}"


def _clock(rng: random.Random, split: Split) -> str:
    hour, minute = rng.randint(7, 21), rng.choice(("00", "00", "30", "15", "45"))
    if rng.random() < 0.35:
        return f"{hour - 12 if hour > 12 else hour} {'am' if hour < 12 else 'pm'}"
    return f"{hour}:{minute}"


def _date(rng: random.Random, split: Split) -> str:
    day, month = draw_number(rng, 1, 28, split), rng.randrange(12)
    if rng.random() < 0.5:
        return f"{rng.choice((2025, 2026, 2027))}-{month + 1:02d}-{day:02d}"
    return rng.choice((f"{day} {_MONTHS[month]}", f"{_MONTHS[month]} {day}"))


def _order(rng: random.Random, split: Split) -> str:
    forms = (
        lambda: draw_digits(rng, rng.randint(4, 8)),
        lambda: f"{rng.choice('ABCDEFGHKLMNPRSTW')}{draw_digits(rng, rng.randint(3, 6))}",
        lambda: f"{rng.choice('ABCDEFGHKLMNPRSTW')}{rng.choice('ABCDEFGHKLMNPRSTW')}-{draw_digits(rng, 5)}",
        lambda: f"#{draw_digits(rng, rng.randint(4, 6))}",
        lambda: f"{draw_digits(rng, 3)}-{draw_digits(rng, 6)}",
    )
    return rng.choice(forms)()


def _phone(rng: random.Random, split: Split) -> str:
    groups = " ".join(draw_digits(rng, rng.randint(2, 4)) for _ in range(rng.randint(2, 3)))
    return f"{rng.choice(('0', '+', '0', '00'))}{draw_digits(rng, 2)} {groups}"


def _email(rng: random.Random, split: Split) -> str:
    common = ("help", "service", "care", "team", "info", "shop")
    user = rng.choice((*common, rng.choice(_PEOPLE).lower(), draw_code(rng).lower()))
    return f"{user}@{invent_word(rng).lower()}.{rng.choice(('com', 'shop', 'eu', 'example', 'org', 'net'))}"


def _weight(rng: random.Random, split: Split) -> str:
    part, unit = rng.choice(("", "", ".5", ".2", ".8")), rng.choice(("kg", "kg", "kilos"))
    return f"{draw_number(rng, 1, 40, split)}{part} {unit}"


def _item(rng: random.Random, split: Split) -> str:
    return f"{rng.choice(_FIRST) if rng.random() < 0.5 else invent_word(rng)} {rng.choice(PRODUCTS)}"


def _count(low: int, high: int, unit: str = "") -> Callable[[random.Random, Split], str]:
    return lambda rng, split: f"{draw_number(rng, low, high, split)}{unit}"


def _choice(values: Sequence[str]) -> Callable[[random.Random, Split], str]:
    return lambda rng, split: rng.choice(values)


def _several(values: Sequence[str], low: int, high: int) -> Callable[[random.Random, Split], str]:
    return lambda rng, split: _join(rng.sample(values, rng.randint(low, high)))


_SLOTS: dict[str, Callable[[random.Random, Split], str]] = {
    "allergens": _several(_ALLERGENS, 2, 4),
    "carrier": _choice(_CARRIERS),
    "city": lambda rng, split: rng.choice(_CITIES) if rng.random() < 0.6 else invent_word(rng),
    "clock": _clock,
    "colour": _choice(_COLOURS),
    "colours": _several(_COLOURS, 2, 4),
    "count": _count(2, 60),
    "coupon": lambda rng, split: draw_code(rng),
    "date": _date,
    "days": _days,
    "degrees": _count(20, 95, " degrees"),
    "duration": lambda rng, split: f"{draw_number(rng, 2, 48, split)} {rng.choice(('months', 'years', 'months'))}",
    "email": _email,
    "event": _choice(_EVENTS),
    "hours": _count(2, 48, " hours"),
    "item": _item,
    "length": _count(10, 250, " cm"),
    "material": _choice(_MATERIALS),
    "minutes": _count(10, 180, " minutes"),
    "money": _money,
    "name": _choice(_PEOPLE),
    "order": _order,
    "payment": _choice(_PAYMENTS),
    "payments": _several(_PAYMENTS, 2, 4),
    "percent": _count(4, 60, "%"),
    "person": lambda rng, split: f"{rng.choice(_PEOPLE)} {invent_word(rng)}",
    "phone": _phone,
    "place": _choice(_COUNTRIES),
    "places": _several(_COUNTRIES, 2, 4),
    "product": _choice(PRODUCTS),
    "reason": _choice(_REASONS),
    "service": _choice(_SERVICES),
    "size": _choice(_SIZES),
    "span": _span,
    "street": lambda rng, split: f"{rng.choice(_STREETS)} {draw_number(rng, 1, 180, split)}",
    "ticket": lambda rng, split: f"{rng.choice(('R', 'T', 'B', 'RN-', 'K', ''))}{draw_digits(rng, rng.randint(4, 7))}",
    "weekday": _choice(_WEEKDAYS),
    "weight": _weight,
    "year": _count(1890, 2024),
}


def fill_slot(rng: random.Random, slot: str, split: Split) -> str:
    """A value for `slot`, e.g. `money2`; KeyError for a kind that does not exist."""
    return _SLOTS[slot.rstrip("0123456789")](rng, split)
