"""Invented shops: passages, customers' questions with the sentence that answers them, and questions nobody answers.

Serves the training of the embedder, the calibration of the extractive engine and their benchmark. Wordings are parted
three ways: of five question wordings one is only for calibration and one only for tests, and so of the wordings of a
fact; intents and venues of public data are held out by hash. Also reads that public data (FAIRLEAD_DATA, never
shipped). Knows nothing of models. Everything is a pure function of the seed.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

TOPICS_FILE = Path(__file__).with_name("embed_topics.txt")


class Split(Enum):
    """Which wordings may be used."""

    TRAIN = "train"
    CALIBRATE = "calibrate"
    TEST = "test"
    ALL = "all"


_PLACES = {Split.TRAIN: (0, 1, 3), Split.CALIBRATE: (2,), Split.TEST: (4,), Split.ALL: (0, 1, 2, 3, 4)}


@dataclass(frozen=True)
class Topic:
    """A subject customers ask about. ``kind`` says what kind of answer fits (duration, money, place, ...)."""

    name: str
    group: str
    kind: str
    headings: tuple[str, ...]
    facts: tuple[str, ...]
    questions: tuple[str, ...]

    def facts_of(self, split: Split) -> list[str]:
        """Wordings of the fact that a split may use."""
        return _held(self.facts, split)

    def questions_of(self, split: Split) -> list[str]:
        """Wordings of the question that a split may use."""
        return _held(self.questions, split)


@dataclass(frozen=True)
class Passage:
    """What retrieval would give: a heading and a few sentences. ``facts`` maps a topic to its sentence."""

    id: str
    title: str
    text: str
    facts: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, str]:
        """The passage in the form of the request's `documents`."""
        return {"id": self.id, "title": self.title, "text": self.text, "location": f"{self.id}.md"}


@dataclass(frozen=True)
class Question:
    """A customer's message. ``values`` must all stand in a right answer; empty `passage` means nobody can answer it."""

    text: str
    topic: str
    kind: str
    passage: str
    sentence: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Shop:
    """An invented shop with all its passages and questions."""

    name: str
    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


def _held(wordings: tuple[str, ...], split: Split) -> list[str]:
    """Every fifth wording is for calibration, every fifth for tests; topics with fewer lend theirs to all splits."""
    chosen = [w for i, w in enumerate(wordings) if i % 5 in _PLACES[split]]
    return chosen or list(wordings)


def load_topics(path: Path = TOPICS_FILE) -> list[Topic]:
    """Read the topics file. Raises ValueError for a line it cannot place."""
    topics: list[Topic] = []
    head: list[str] = []
    lines: dict[str, list[str]] = {}

    def close() -> None:
        if head:
            headings = tuple(part.strip() for line in lines["H"] for part in line.split("|"))
            topics.append(Topic(head[0], head[1], head[2], headings, tuple(lines["P"]), tuple(lines["Q"])))

    for raw in path.read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("== "):
            close()
            head = [part.strip() for part in line[3:].split("|")]
            lines = {"H": [], "P": [], "Q": []}
        elif line[:2] in ("H ", "P ", "Q "):
            lines[line[0]].append(line[2:].strip())
        else:
            raise ValueError(f"{path}: cannot place {line!r}")
    close()
    return topics


# ---------------------------------------------------------------- values of the slots
_ONES = ["Fern", "Maple", "Copper", "Harbor", "Willow", "Nord", "Amber", "Cedar", "Silver", "Little", "Bright", "Old"]
_TWOS = ["Fox", "Fable", "Lane", "House", "Market", "Works", "Goods", "Trail", "Nest", "Barn", "Studio", "Kettle"]
PRODUCTS = (
    "jacket backpack tent lamp chair bookshelf sofa mattress rug kettle teapot blender toaster speaker "
    "keyboard monitor tablet charger router helmet saddle scooter skateboard leash aquarium shampoo "
    "perfume lipstick puzzle doll train dress shirt sweater scarf raincoat belt planter rake trimmer "
    "novel cookbook notebook pen calendar drill hammer ladder necklace ring watch bracelet dumbbell "
    "football racket guitar violin drum microphone vase candle mirror curtain pillow blanket clock "
    "printer camera tripod heater fan bike stroller desk wardrobe oven fridge phone laptop"
).split()
_CITIES = "Lisbon Hamburg Ghent Leeds Turin Graz Lyon Porto Bergen Cork Bristol Basel Utrecht Seville Dresden".split()
_COUNTRIES = "Norway Austria France Spain Italy Poland Denmark Sweden Finland Portugal Ireland Belgium Canada".split()
_CARRIERS = ["DHL", "UPS", "FedEx", "GLS", "DPD", "Royal Mail", "Hermes", "the post", "our own drivers"]
_PAYS = ["PayPal", "Visa", "Mastercard", "Klarna", "Apple Pay", "Google Pay", "bank transfer", "invoice", "cash"]
_STREETS = ["Mill Street", "Harbour Road", "Oak Avenue", "Station Road", "Church Lane", "Market Square", "Elm Way"]
_MATERIALS = ["cotton", "wool", "oak", "bamboo", "steel", "aluminium", "leather", "linen", "recycled plastic", "cork"]
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_LANGS = "English German French Spanish Italian Dutch Polish Turkish".split()
_NAMES = ["Anna Berg", "Carla Moss", "David Lund", "Greta Holm", "Hugo Stein", "Ines Faro", "Jonas Vale", "Mia Koch"]
_MONTHS = "January February March April May June July August September October November December".split()


def _spell(number: int, unit: str) -> str:
    return f"{number} {unit}" if number != 1 else f"{number} {unit.removesuffix('s')}"


def _joined(rng: random.Random, values: list[str], least: int, most: int) -> str:
    some = rng.sample(values, rng.randint(least, most))
    return ", ".join(some[:-1]) + " and " + some[-1]


def _money(rng: random.Random) -> str:
    cents = rng.choice(["", "", ".50", ".90", ".95", f".{rng.randint(0, 99):02d}"])
    pattern = rng.choice(["€{}", "${}", "£{}", "{} EUR", "{} euros", "CHF {}"])
    return pattern.format(str(rng.randint(2, 250)) + cents)


def _clock(rng: random.Random) -> str:
    hour = rng.randint(7, 21)
    return rng.choice([f"{hour}:00", f"{hour}:30", f"{hour if hour < 13 else hour - 12} {'am' if hour < 12 else 'pm'}"])


def _range(rng: random.Random) -> str:
    low = rng.randint(1, 12)
    unit = rng.choice(["days", "working days", "business days"])
    return rng.choice([f"{low}-{low + rng.randint(1, 5)} {unit}", f"{low} to {low + rng.randint(1, 5)} {unit}"])


_FILLERS: dict[str, Callable[[random.Random], str]] = {
    "days": lambda r: f"{r.randint(3, 100)} {r.choice(['days', 'days', 'calendar days', 'working days'])}",
    "weeks": lambda r: _spell(r.randint(1, 8), "weeks"),
    "months": lambda r: r.choice([f"{r.randint(2, 60)} months", _spell(r.randint(1, 10), "years")]),
    "years": lambda r: f"{r.randint(2, 12)} years",
    "hours": lambda r: _spell(r.randint(1, 72), "hours"),
    "minutes": lambda r: f"{r.randint(5, 90)} minutes",
    "range": _range,
    "money": _money,
    "time": _clock,
    "weekdays": lambda r: f"{r.choice(_DAYS[:2])} to {r.choice(_DAYS[4:])}",
    "day": lambda r: r.choice(_DAYS),
    "city": lambda r: r.choice(_CITIES),
    "street": lambda r: r.choice(_STREETS),
    "country": lambda r: r.choice(_COUNTRIES),
    "countries": lambda r: _joined(r, _COUNTRIES, 2, 4),
    "pays": lambda r: _joined(r, _PAYS, 2, 5),
    "pay": lambda r: r.choice(_PAYS),
    "langs": lambda r: _joined(r, _LANGS, 2, 3),
    "lang": lambda r: r.choice(_LANGS),
    "phone": lambda r: r.choice(["0", "+"]) + " ".join(str(r.randint(10, 999)) for _ in range(3)),
    "email": lambda r: (
        f"{r.choice(['help', 'service', 'hello', 'care'])}@{r.choice(_ONES).lower()}{r.choice(_TWOS).lower()}.example"
    ),
    "code": lambda r: "".join(r.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(5)) + str(r.randint(5, 99)),
    "percent": lambda r: f"{r.randint(3, 30)}%",
    "n": lambda r: str(r.randint(2, 200)),
    "kg": lambda r: f"{r.randint(2, 180)} kg",
    "metres": lambda r: f"{r.randint(1, 50)} metres",
    "degrees": lambda r: f"{r.choice([30, 40, 60])} degrees",
    "size": lambda r: r.choice(["XS", "S", "M", "L", "XL", "36", "38", "42", "46"]),
    "carrier": lambda r: r.choice(_CARRIERS),
    "material": lambda r: r.choice(_MATERIALS),
    "name": lambda r: r.choice(_NAMES),
    "year": lambda r: str(r.randint(1950, 2022)),
    "date": lambda r: f"{r.randint(1, 28)} {r.choice(_MONTHS)}",
    "prod": lambda r: r.choice(PRODUCTS),
}
_SLOT = re.compile(r"\{([a-z]+)(\d*)\}")
_KEEP = {"prods", "prod"}


class _Slots:
    """Values of one shop: the same slot always gives the same value, except {prod} and {pay} of a question."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        main = rng.choice(PRODUCTS)
        self._values = {"prod0": main, "prods": _plural(main)}

    def fill(self, text: str, *, fact: bool) -> tuple[str, tuple[str, ...]]:
        """The text with its slots filled, and the filled values that carry the fact."""
        used: list[str] = []

        def put(match: re.Match[str]) -> str:
            base, number = match.groups()
            slot = base + number
            if not fact and slot in ("prod", "pay", "country", "lang"):
                return _FILLERS[base](self._rng)
            if slot not in self._values:
                self._values[slot] = _FILLERS[base](self._rng)
            if base not in _KEEP:
                used.append(self._values[slot])
            return self._values[slot]

        return _SLOT.sub(put, text), tuple(used)


def _plural(noun: str) -> str:
    if noun.endswith("f"):
        return noun[:-1] + "ves"
    if noun.endswith(("s", "ch", "sh", "x")):
        return noun + "es"
    return noun + "s"


# ---------------------------------------------------------------- shops
_GROUP_TITLES = {
    "returns": ["Returns and refunds", "Sending things back"],
    "delivery": ["Delivery", "Shipping and delivery"],
    "problems": ["Problems and warranty", "When something goes wrong"],
    "store": ["Our store", "Visit us"],
    "payment": ["Payment", "Paying"],
    "offers": ["Offers", "Discounts and gifts"],
    "orders": ["Your order", "Orders"],
    "account": ["Your account", "Account and data"],
    "products": ["Our products", "Product questions"],
    "services": ["Services", "What else we do"],
    "about": ["About us", "Who we are"],
}
_FILLER_SENTENCES = [
    "Please read the following carefully.",
    "We are happy to help if anything is unclear.",
    "Have a look at the product page first.",
    "Our team checks every request by hand.",
    "Thank you for shopping with us.",
    "This applies to orders placed in our online shop.",
]
OFF_TOPIC = (
    "who won the world cup|what is the weather like tomorrow|tell me a recipe for pancakes|how tall is mount everest|"
    "what is the capital of france|can you write a poem about cats|who is the president|what is 12 times 14|"
    "book me a table for two|play some music|how do I learn python|what should I cook tonight|"
    "translate good morning into spanish|what's the meaning of life|which horse should I bet on|"
    "how do I fix my marriage|is there life on mars|what time is it in tokyo|recommend me a film|"
    "who wrote hamlet|when does the next bus leave|my tooth hurts, what should I take|how do stocks work|"
    "can you do my homework|what is the best football team"
).split("|")


def make_shop(seed: int, split: Split, topics: list[Topic], *, typos: float = 0.15) -> Shop:
    """An invented shop: 10 to 30 topics in passages of one to four sentences, a table or two, and its questions.

    About a third of the questions cannot be answered from the passages.
    """
    rng = random.Random(f"{split.value}:{seed}")
    slots = _Slots(rng)
    name = f"{rng.choice(_ONES)} {rng.choice(_TWOS)}"
    chosen = rng.sample(topics, rng.randint(10, 30))
    passages = _passages(rng, slots, chosen, split)
    tables, table_questions = _tables(rng)
    questions = [*_ask(rng, slots, chosen, passages, split, typos), *table_questions]
    absent = [t for t in topics if t not in chosen]
    for topic in rng.sample(absent, min(len(absent), max(4, len(chosen) // 3))):
        text, _ = slots.fill(rng.choice(topic.questions_of(split)), fact=False)
        questions.append(Question(roughen(rng, text, typos), topic.name, topic.kind, "", "", ()))
    questions += [Question(text, "off_topic", "other", "", "", ()) for text in rng.sample(OFF_TOPIC, 2)]
    return Shop(name, (*passages, *tables), tuple(questions))


def _passages(rng: random.Random, slots: _Slots, chosen: list[Topic], split: Split) -> list[Passage]:
    facts_split = split if split is Split.TRAIN else rng.choice([split, Split.ALL])
    groups: dict[str, list[Topic]] = {}
    for topic in chosen:
        groups.setdefault(topic.group, []).append(topic)
    passages: list[Passage] = []
    for group, members in groups.items():
        left = list(members)
        while left:
            part, left = left[: (size := rng.randint(1, 3))], left[size:]
            facts = {t.name: slots.fill(rng.choice(t.facts_of(facts_split)), fact=True)[0] for t in part}
            sentences = list(facts.values())
            if rng.random() < 0.4:
                sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(_FILLER_SENTENCES))
            single = rng.choice(part[0].headings) if len(part) == 1 else rng.choice(_GROUP_TITLES[group])
            title = f"{rng.choice(_GROUP_TITLES[group])} > {single}" if rng.random() < 0.3 else single
            glue = "\n- " if rng.random() < 0.15 and len(sentences) > 1 else " "
            text = ("- " if glue != " " else "") + glue.join(sentences)
            passages.append(Passage(f"p{len(passages)}", title, text, facts))
    return passages


def _ask(
    rng: random.Random, slots: _Slots, chosen: list[Topic], passages: list[Passage], split: Split, typos: float
) -> list[Question]:
    where = {topic: p for p in passages for topic in p.facts}
    questions = []
    for topic in chosen:
        passage = where[topic.name]
        sentence = passage.facts[topic.name]
        text, _ = slots.fill(rng.choice(topic.questions_of(split)), fact=False)
        values = tuple(v for v in re.findall(r"\S*\d\S*", sentence)) or (sentence.split("? ")[-1].rstrip("."),)
        values = tuple(v.rstrip(".,;:") for v in values)
        questions.append(Question(roughen(rng, text, typos), topic.name, topic.kind, passage.id, sentence, values))
    return questions


def _tables(rng: random.Random) -> tuple[list[Passage], list[Question]]:
    """A price list and a table of delivery by country, each half of the time, as Markdown tables."""
    passages: list[Passage] = []
    questions: list[Question] = []
    if rng.random() < 0.5:
        rows = [(p, _money(rng), f"{rng.randint(1, 40)} kg") for p in rng.sample(PRODUCTS, rng.randint(3, 6))]
        lines = [f"| {p.capitalize()} | {price} | {weight} |" for p, price, weight in rows]
        text = "| Product | Price | Weight |\n|---|---|---|\n" + "\n".join(lines)
        passages.append(Passage("prices", "Price list", text))
        product, price, weight = rng.choice(rows)
        wording = rng.choice(
            ["how much is the {p}?", "what does a {p} cost", "price of the {p}?", "what do you want for the {p}?"]
        )
        questions.append(Question(wording.format(p=product), "table", "money", "prices", "", (price,)))
        heavy = rng.choice(["how heavy is the {p}", "what does the {p} weigh?", "weight of the {p}?"])
        questions.append(Question(heavy.format(p=product), "table", "number", "prices", "", (weight,)))
    if rng.random() < 0.5:
        countries = [(c, _money(rng), _range(rng)) for c in rng.sample(_COUNTRIES, rng.randint(3, 6))]
        lines = [f"| {c} | {price} | {days} |" for c, price, days in countries]
        text = "| Country | Cost | Delivery time |\n|:--|--:|:--|\n" + "\n".join(lines)
        passages.append(Passage("countries", "Shipping abroad", text))
        country, price, days = rng.choice(countries)
        money = rng.choice(["what is shipping to {c}?", "how much is delivery to {c}", "postage to {c}?"])
        questions.append(Question(money.format(c=country), "table", "money", "countries", "", (price,)))
        long = rng.choice(["how long does a parcel to {c} take?", "when would it arrive in {c}"])
        questions.append(Question(long.format(c=country), "table", "duration", "countries", "", (days,)))
    return passages, questions


_OPENERS = ["hi, ", "hello! ", "hey ", "good morning, ", "quick question: ", "sorry to bother you, ", "please tell me "]
_TAILS = [" thanks", " please", " thank you!", " pls", " ?"]


def roughen(rng: random.Random, text: str, share: float) -> str:
    """The way people type: openers, missing punctuation, lower case, slips of the finger, each with odds ``share``."""
    if rng.random() < share:
        text = rng.choice(_OPENERS) + text
    if rng.random() < share:
        text = text.rstrip("?.") + rng.choice(_TAILS)
    if rng.random() < share:
        text = text.lower().replace("'", "").rstrip("?.!")
    if rng.random() < share:
        text = slip(rng, text)
    return text


def slip(rng: random.Random, text: str) -> str:
    """One slip of the finger in a word of five letters or more: two swapped, one lost, one doubled."""
    words = text.split(" ")
    long = [i for i, w in enumerate(words) if len(w) > 4 and w.isalpha()]
    if not long:
        return text
    at = rng.choice(long)
    word, i = words[at], rng.randint(1, len(words[at]) - 3)
    words[at] = rng.choice(
        [word[:i] + word[i + 1] + word[i] + word[i + 2 :], word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:]]
    )
    return " ".join(words)


# ---------------------------------------------------------------- public data
def read_shard(data: Path, source: str) -> Iterator[dict[str, Any]]:
    """Records of one source of the dialogue corpus, all its shards in order."""
    for path in sorted((data / "corpus" / "shards").glob(f"{source}-[0-9]*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def read_intents(data: Path) -> dict[str, list[tuple[str, str]]]:
    """Labelled utterances (text, intent) by data set."""
    with (data / "banking77" / "train.csv").open(encoding="utf-8") as file:
        banking = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    clinc = [(t, i) for t, i in json.loads((data / "clinc_oos" / "clinc_train_val.json").read_text())["train"]]
    with (data / "bitext" / "Bitext_Sample_Customer_Service_Training_Dataset.csv").open(encoding="utf-8") as file:
        bitext = [(row["utterance"], row["intent"]) for row in csv.DictReader(file)]
    return {"banking77": banking, "clinc": clinc, "bitext": bitext}


def is_held(name: str) -> bool:
    """Whether an intent or a venue is kept out of training: two of five, by hash, so that the choice cannot drift."""
    return hashlib.sha256(name.encode()).digest()[0] % 5 < 2


def read_faq(data: Path) -> list[tuple[str, str, str]]:
    """(venue, question, answer) of the frequently asked questions of hotels, restaurants and the like."""
    rows = []
    for record in read_shard(data, "dstc9-faq"):
        turns = record["turns"]
        for (who, question), (_, answer) in zip(turns[::2], turns[1::2], strict=False):
            if who == "user":
                rows.append((record["context"], question, answer))
    return rows
