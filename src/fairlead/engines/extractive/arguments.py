"""Values for a tool's parameters out of the customer's own words, by the types of its JSON Schema, copied exactly.

Knows no model and guesses nothing: a value is found or it is missing. Documents and tool results are never looked at,
so untrusted text cannot become an argument. A schema's `pattern` is only used when it is short and simple enough to be
matched in linear time.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

from fairlead.engines.embed.embedder import shared
from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive.finders import (
    AFTER_NOUN,
    CODE,
    DATE,
    EMAIL,
    FINDERS,
    MARKED_ID,
    MONEY,
    NO_PRODUCT,
    NUMBER,
    NUMBER_WORDS,
    QUOTED,
    ROUND_WORDS,
    SIZE_TOKEN,
    TIME,
    WEIGHT,
    formed_identifiers,
    identifier,
    iso_date,
    misshapen_identifiers,
    whole,
)
from fairlead.engines.extractive.text import STOP, concepts_of, content, respell, stem

Value = str | int | float | bool | list[str]
_UNSAFE_PATTERN = re.compile(r"[)\]][+*{].*[)][+*{]|\)[+*{?]|\\[1-9kKpPuUxN]|\(\?|[+*}][+*]")


class Parameter(NamedTuple):
    """One parameter of a tool. ``schema`` is its JSON Schema as sent, ``about`` the folded words of its tool."""

    name: str
    schema: dict[str, Any]
    required: bool
    about: str = ""

    @property
    def words(self) -> str:
        """Name and description, folded, for deciding what it is."""
        return " ".join(words_of(re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-.]", " ", self.name)))

    @property
    def description(self) -> str:
        """Its description, or an empty text."""
        found = self.schema.get("description")
        return found if isinstance(found, str) else ""

    @property
    def type(self) -> str:
        """The JSON type; the first that is not null where several are allowed."""
        declared = self.schema.get("type")
        if isinstance(declared, list):
            declared = next((t for t in declared if isinstance(t, str) and t != "null"), "string")
        return declared if isinstance(declared, str) else "string"

    @property
    def form(self) -> re.Pattern[str] | None:
        """Its pattern, where that is short and cannot run away."""
        pattern = self.schema.get("pattern")
        if not isinstance(pattern, str) or len(pattern) > 80 or _UNSAFE_PATTERN.search(pattern):
            return None
        try:
            return re.compile(pattern)
        except (re.error, RecursionError, OverflowError):
            return None

    @property
    def example(self) -> str:
        """How a value looks, from its schema; empty when that shows none."""
        shown = self.schema.get("examples")
        first = shown[0] if isinstance(shown, list) and shown else ""
        return first if isinstance(first, str) and len(first) <= 60 else ""

    @property
    def choices(self) -> list[Any]:
        """Its allowed values, empty when any is allowed."""
        found = self.schema.get("enum")
        return found[:200] if isinstance(found, list) else []


def kind_of(parameter: Parameter) -> str:
    """What a parameter holds: email, phone, date, time, id, size, ...; ``text`` when nothing says more."""
    declared = parameter.schema.get("format")
    if declared in ("email", "date", "time", "date-time", "phone", "uuid"):
        return {"date-time": "date", "uuid": "id"}.get(declared, str(declared))
    name = f" {parameter.words} "
    for kind, marks in _KIND_MARKS:
        if any(f" {mark} " in name for mark in marks):
            return _of_tool(kind, name.strip(), parameter)
    if parameter.type in ("integer", "number"):
        return "amount" if "amount" in name else "number"
    described = f" {' '.join(words_of(parameter.description)[:12])} "
    for kind, marks in (*_KIND_MARKS[:_DESCRIBED], _KIND_MARKS[_FAULT]):
        if any(f" {mark} " in described for mark in marks):
            return kind
    return "text"


def _of_tool(kind: str, name: str, parameter: Parameter) -> str:
    """What a bare name ("address", "number") means in its tool: that of a newsletter, that of a call."""
    if kind == "address" and _MAILING.search(parameter.about) and not _STREET.search(parameter.about):
        return "email"
    return "phone" if kind == "id" and name in ("number", "no") and _CALLING.search(parameter.about) else kind


_MAILING = re.compile(r"\b(?:newsletters?|mailing|e mail|email|mail|subscribers?|subscribe|unsubscribe)\b")
_STREET = re.compile(r"\b(?:deliver\w*|street|parcels?|orders?|ship\w*|house)\b")
_CALLING = re.compile(r"\b(?:call\w*|phone\w*|ring|telephone)\b")
_KIND_MARKS: list[tuple[str, tuple[str, ...]]] = [
    ("email", ("email", "mail", "e mail", "emailaddress")),
    ("iban", ("iban",)),
    ("phone", ("phone", "telephone", "mobile", "phonenumber")),
    ("postcode", ("postcode", "zip", "zipcode", "postal code", "postal")),
    ("address", ("address", "street")),
    ("quantity", ("quantity", "qty", "count", "how many", "pieces", "number of items", "units")),
    ("code", ("coupon", "voucher", "promo", "code", "gift card")),
    ("weight", ("weight", "kg", "kilograms")),
    ("id", ("order", "id", "number", "reference", "ref", "tracking", "ticket", "invoice", "orderid", "sku", "no",
            "booking", "subscription")),
    ("place", ("country", "destination")),
    ("size", ("size",)),
    ("moment", ("when", "availability", "suits")),
    ("date", ("date", "day")),
    ("time", ("time", "hour", "slot")),
    ("amount", ("amount", "price", "value", "total", "sum", "refund amount")),
    ("reason", ("reason", "why", "cause")),
    ("fault", ("issue", "problem", "fault", "defect", "damage", "complaint", "what is wrong")),
    ("message", ("query", "question", "message", "text", "search", "comment", "note", "summary")),
    ("colour", ("colour", "color", "shade")),
    ("product", ("product", "item", "article", "items", "products")),
    ("name", ("name", "first name", "last name", "surname", "fullname")),
]  # fmt: skip


_DESCRIBED = next(place for place, (kind, _) in enumerate(_KIND_MARKS) if kind == "moment")
"""The kinds before it are told by a description too."""
_FAULT = next(place for place, (kind, _) in enumerate(_KIND_MARKS) if kind == "fault")


def extract(parameter: Parameter, message: str, *, asked: bool) -> Value | None:
    """The value of a parameter in one message, or None. ``asked``: the message answers a question for exactly this."""
    kind = kind_of(parameter)
    if parameter.choices:
        return _choice(parameter, message)
    if parameter.type == "boolean":
        return _boolean(message) if asked else None
    if parameter.type in ("integer", "number"):
        return _number(parameter, kind, message, asked=asked)
    if parameter.type == "array":
        return _array(parameter, message, asked=asked)
    if parameter.type != "string":
        return None
    return _text(parameter, kind, message, asked=asked)


def _text(parameter: Parameter, kind: str, message: str, *, asked: bool) -> str | None:
    """The value of a parameter that takes a text."""
    if "new" in parameter.words.split() and kind in _LASTING and (later := _FROM_TO.search(message)):
        message = later[1]
    if kind == "message" and not asked and _WORDS_WANTED.search(parameter.description) and not QUOTED.search(message):
        return None
    if kind == "id" and (formed := every_identifier(parameter, message)):
        return formed[0]
    finder = FINDERS.get(kind)
    found = finder(message) if finder else _named(parameter, message) if kind == "text" else None
    if found is None and asked:
        found = _answered(kind, message)
    if found is None:
        return None
    if kind == "date" and parameter.schema.get("format") == "date":
        found = iso_date(found) or found
    if kind == "id" and parameter.form is not None and found.isdigit():
        return None  # bare digits of the right form that are called something else
    return found if _allowed(parameter, found) else None


def misshapen(parameter: Parameter, message: str, *, asked: bool) -> str:
    """What a message gives for an identifier or an e-mail address that has not the form of one; empty if nothing.

    ``asked``: the message answers the question for it. Otherwise only what is called so, or begins like the example.
    """
    kind = kind_of(parameter)
    if kind == "email":
        found = _AT.search(message)
        return found[0].strip(".,;:!?")[:60] if found else ""
    if kind != "id" or parameter.form is None:
        return ""
    letters = re.match(r"[A-Za-z]*", parameter.example)
    begins = letters[0].casefold() if letters else ""
    names = "|".join(re.escape(w) for w in parameter.words.split() if len(w) > 3)
    for text in misshapen_identifiers(message):
        alike = bool(begins) and text.casefold().startswith(begins)
        called = names and re.search(rf"\b(?:{names})\b[^.?!\d]{{0,20}}{re.escape(text)}", message, re.IGNORECASE)
        if sum(c.isdigit() for c in text) >= 3 and (alike or called or asked):
            return text[:40]
    return ""


_AT = re.compile(r"[^\s@]{0,64}@[^\s@]{0,100}")


def every_identifier(parameter: Parameter, message: str) -> list[str]:
    """All numbers in a message that have the form of an identifier's parameter, as written."""
    if parameter.form is None:
        return []
    own = words_of(f"{parameter.words} {parameter.description}")
    return [text for text in formed_identifiers(parameter.form, message, own) if _allowed(parameter, text)]


def _answered(kind: str, message: str) -> str | None:
    """The value in a message that answers the question for it, where no finder sees one."""
    if kind == "code" and (code := CODE.search(message)):
        return code[0]
    if kind in _WHOLE and (told := whole(kind, message)) is not None:
        return told
    size = SIZE_TOKEN.search(message) if kind == "size" else None
    return size[0] if size else None


_WHOLE = frozenset(
    (
        "text", "name", "reason", "message", "product", "address", "time", "moment", "date", "size", "code", "postcode",
        "id", "place", "weight", "colour", "fault",
    )
)  # fmt: skip


def without(message: str, value: Value, kind: str) -> str:
    """``message`` without a value that was found in it."""
    if kind == "date" and isinstance(value, str) and value not in message:  # it was written in another form
        return DATE.sub("...", message, count=1)
    return re.sub(rf"(?<![\w.]){re.escape(str(value))}(?!\w)", "...", message, count=1)


# What is to be written somewhere, word for word: the message that asks for it is not it.
_WORDS_WANTED = re.compile(r"\b(?:new|words?|wording|text of|written|engraved|printed|say)\b", re.IGNORECASE)
_LASTING = frozenset(("email", "address", "phone", "date"))
_FROM_TO = re.compile(r"\b(?:from|of) .{3,120}? to (.{3,200})", re.IGNORECASE | re.DOTALL)


def _named(parameter: Parameter, message: str) -> str | None:
    """The thing a parameter is named for, as the customer calls it: "road bike" for ``bike``, "puppy" for ``pet``."""
    noun = parameter.words.split()[-1] if parameter.words else ""
    if len(noun) < 3 or not noun.isalpha() or noun in NO_PRODUCT:
        return None
    return _with_noun(noun, message) or _of_its_kind(parameter, noun, message)


def _of_its_kind(parameter: Parameter, noun: str, message: str) -> str | None:
    """The word of a message that is nearest to what a parameter is named for and described as."""
    embedder = shared()
    wanted = embedder.encode_words([noun, *(w for w in words_of(parameter.description) if w not in _NO_KIND)])
    own = frozenset(stem(w) for w in words_of(f"{parameter.about} {parameter.words} {parameter.description}"))
    found = [w for w in _THINGS.findall(message) if fold(w) not in STOP and stem(fold(w)) not in own]
    if not found:
        return None
    near = (embedder.encode_words([fold(w) for w in found]) @ wanted.T).max(axis=1)
    best = int(near.argmax())
    return found[best] if near[best] >= OF_A_KIND else None


_THINGS = re.compile(r"(?i:\b(?:my|our|an?|the|this|his|her|their|one|two|three|new|old|for)\s+)+([^\W\d_][\w'-]+)")
OF_A_KIND = 0.28
"""Cosine from which a word counts as of a kind with another: cat and pet .47, rabbit and pet .29, rose and pet -.08."""
_NO_KIND = STOP | frozenset(words_of("kind what sort type name which customer"))


def _with_noun(noun: str, message: str) -> str | None:
    """What stands before a noun with it, where that says more than the noun."""
    found = re.search(rf"((?:[A-Za-z][\w'-]* ){{0,3}}(?:[A-Za-z]+-)?{re.escape(noun)}s?)\b", message, re.IGNORECASE)
    words = found[1].split() if found else []
    while words and (stem(words[0].lower()) in _BEFORE_NOUN or respell(words[0].lower()) in AFTER_NOUN):
        words.pop(0)
    return " ".join(words) if len(words) > 1 or (words and "-" in words[0]) else None


_BEFORE_NOUN = frozenset(
    stem(w)
    for w in words_of(
        "a an the my our your his her their this that these those some any one of about book bring want need have get "
        "take buy order hire rent new other another what which kind sort we i"
    )
)


def _choice(parameter: Parameter, message: str) -> Value | None:
    folded = " ".join(words_of(message))
    stems = " ".join(stem(w) for w in words_of(message))
    best: tuple[int, Value] | None = None
    for choice in parameter.choices:
        if not isinstance(choice, str | int | float) or isinstance(choice, bool):
            continue
        words = words_of(re.sub(r"[_-]", " ", str(choice)))
        plain, stemmed = " ".join(words), " ".join(stem(w) for w in words)
        if not plain:
            continue
        stands = f" {plain} " in f" {folded} " or f" {stemmed} " in f" {stems} "
        stands = stands or (len(words) > 1 and set(content(words)) <= set(stems.split()) != set())
        if stands and plain != "other" and (best is None or len(plain) > best[0]):
            best = (len(plain), choice)
    return _by_idea(parameter, message) if best is None else best[1]


def _by_idea(parameter: Parameter, message: str) -> Value | None:
    """The choice that shares most ideas with the message, one of its own counting most: "smashed" for "damaged"."""
    ideas = concepts_of(words_of(message))
    shared = {c: concepts_of(words_of(c.replace("_", " "))) & ideas for c in parameter.choices if isinstance(c, str)}
    often = Counter(idea for some in shared.values() for idea in some)
    worth = {c: sum(1 / often[idea] for idea in some) for c, some in shared.items() if some}
    best = [c for c, value in worth.items() if value == max(worth.values())]
    return best[0] if len(best) == 1 else None


def _boolean(message: str) -> bool | None:
    folded = fold(message).strip()
    if re.match(r"(?:yes|yeah|yep|sure|ok|okay|true|please do|of course)\b", folded):
        return True
    return False if re.match(r"(?:no|nope|false|don'?t|not)\b", folded) else None


def _number(parameter: Parameter, kind: str, message: str, *, asked: bool) -> int | float | None:
    text = _figure(parameter, kind, message, asked=asked)
    if text is None or not re.fullmatch(r"-?\d+(?:[.,]\d+)?", text):
        return None
    value = float(text.replace(",", "."))
    if parameter.type == "integer" and value != int(value):
        return None
    number: int | float = int(value) if value == int(value) and "." not in text and "," not in text else value
    return number if _is_within(parameter, number) else None


def _is_within(parameter: Parameter, number: float) -> bool:
    low, high = parameter.schema.get("minimum"), parameter.schema.get("maximum")
    return not (isinstance(low, int | float) and number < low) and not (isinstance(high, int | float) and number > high)


def _figure(parameter: Parameter, kind: str, message: str, *, asked: bool) -> str | None:
    """The words of a message that say a number, as digits."""
    if kind == "id":
        return identifier(message)
    if kind == "weight":
        heavy = WEIGHT.search(message)
        digits = re.match(r"[\d.,]+", heavy[0]) if heavy else None
        return digits[0] if digits else message.strip() if asked and not heavy else None
    if (counted := _counted(parameter, message)) is not None:
        return counted
    if kind == "amount" and (found := MONEY.search(message)):
        return found[1] or found[2]
    return _loose(parameter, kind, message, asked=asked) if kind in ("quantity", "number", "amount") else None


def _loose(parameter: Parameter, kind: str, message: str, *, asked: bool) -> str | None:
    """A number that no unit and no mark stands beside."""
    bare = TIME.sub(" ", DATE.sub(" ", MONEY.sub(" ", EMAIL.sub(" ", message))))
    found = NUMBER.search(_LETTERED.sub(" ", MARKED_ID.sub(" ", bare) if kind == "quantity" else bare))
    if found and (asked or kind != "number"):
        return found[0]
    if kind == "number" and (named := _after_its_name(parameter, bare)):
        return named
    if kind == "amount":
        return None
    return _in_words(words_of(message), one=asked)


def _in_words(words: list[str], *, one: bool) -> str | None:
    """The first number said in words, as digits: "twenty", "two hundred", "another dozen"."""
    for i, word in enumerate(words):
        if word in ROUND_WORDS:
            return str(NUMBER_WORDS.get(words[i - 1] if i else "", 1) * ROUND_WORDS[word])
        rounded = i + 1 < len(words) and words[i + 1] in ROUND_WORDS
        if word in NUMBER_WORDS and (one or word != "one") and not rounded:
            return str(NUMBER_WORDS[word])
    return None


# A number with letters or dashes in it names a thing and counts nothing: "HF-30022", "4410-882", "1e9".
_LETTERED = re.compile(r"(?<!\w)[A-Za-z]{0,6}[-_/]?\d+[-_/]\w+|(?<!\w)[A-Za-z]{1,6}[-_/]?\d{2,}\w*|(?<!\w)\d+[eE]\d+\b")


def _after_its_name(parameter: Parameter, message: str) -> str | None:
    """A number soon after a word of the parameter's name or description: "my reading is 48213" for ``reading``."""
    names = [w for w in words_of(f"{parameter.words} {parameter.description}") if len(w) > 3 and w not in STOP]
    for name in dict.fromkeys(names):
        if name not in _NO_NAME and (
            found := re.search(
                rf"\b{re.escape(name)}\w*(?:[ :=]+[a-z]+){{0,3}}[ :=]+(\d{{1,12}}(?:[.,]\d{{1,6}})?)\b", fold(message)
            )
        ):
            return found[1]
    return None


_NO_NAME = frozenset(words_of("number order account customer value amount total the many"))


def _counted(parameter: Parameter, message: str) -> str | None:
    """The number before the thing a parameter counts: "three weeks" for ``weeks``."""
    for word in parameter.words.split():
        if word in _COUNTABLE and (
            found := re.search(rf"\b(\d{{1,4}}|{'|'.join(NUMBER_WORDS)})[ -]{word.rstrip('s')}", fold(message))
        ):
            return str(NUMBER_WORDS.get(found[1], found[1]))
    return None


_COUNTABLE = frozenset(
    "week weeks day days month months hour hours night nights person persons guest guests year years".split()
)


def _array(parameter: Parameter, message: str, *, asked: bool) -> list[str] | None:
    items = parameter.schema.get("items")
    schema = items if isinstance(items, dict) else {"type": "string"}
    if isinstance(schema.get("type", "string"), str) and schema.get("type", "string") == "string":
        one = extract(Parameter(parameter.name.rstrip("s"), schema, parameter.required), message, asked=asked)
        if isinstance(one, str):
            return [one]
    return None


def _allowed(parameter: Parameter, value: str) -> bool:
    least, most = parameter.schema.get("minLength"), parameter.schema.get("maxLength")
    if (isinstance(least, int) and len(value) < least) or (isinstance(most, int) and len(value) > most):
        return False
    return parameter.form is None or parameter.form.search(value[:100]) is not None
