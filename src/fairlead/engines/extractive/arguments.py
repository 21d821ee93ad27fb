"""Values for a tool's parameters out of the customer's own words, by the types of its JSON Schema, copied exactly.

Knows no model and guesses nothing: a value is found or it is missing. Documents and tool results are never looked at,
so untrusted text cannot become an argument. A schema's `pattern` is only used when it is short and simple enough to be
matched in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive.places import places_of
from fairlead.engines.extractive.text import concepts_of, content, respell, stem

Value = str | int | float | bool | list[str]
LONGEST_TEXT = 1000  # characters of a free-text argument

EMAIL = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}")
_PHONE = re.compile(r"(?<![\w+])\+?\(?\d[\d ()/-]{5,18}\d(?!\w)")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = re.compile(
    rf"\b\d{{4}}-\d{{1,2}}-\d{{1,2}}\b|\b\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}\b|\b\d{{1,2}}(?:st|nd|rd"
    rf"|th)?(?: of)? {_MONTH}\b(?:,? \d{{4}}\b)?"
    rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?|\bthe \d{{1,2}}(?:st|nd|rd|th)\b|\b(?:today"
    rf"|tomorrow|the day after tomorrow|(?:next "
    rf"|this )?(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\b\d{1,2}[:.]\d{2}\s?(?:am|pm)?\b|\b\d{1,2}\s?(?:am|pm|o'clock)\b|\b(?:noon|midnight)\b", re.IGNORECASE
)
_MONEY = re.compile(
    r"(?<!-)(?:[€$£]|\b(?:eur|usd|gbp|chf)\b)\s?(\d{1,9}(?:[.,]\d{1,2})?)|"
    r"(?<![\d.,-])(\d{1,9}(?:[.,]\d{1,2})?)\s?(?:€|£|\$|(?:eur|euros?|usd|gbp|chf|pounds?|dollars?|bucks)\b)",
    re.IGNORECASE,
)
_MARKED_ID = re.compile(
    r"\b(?:orders?|order (?:number|no|nr|id|code)|number|no\.?|nr\.?|id|reference|ref|ticket|tracking(?: number"
    r"| code)?|invoice|booking|customer|purchase|parcel|shipment)"
    r"\b(?:\s+(?:is|was|number|no\.?|nr\.?|id|code))*\s?[:=#]?\s?#?\s?([A-Za-z]{0,5}[-_/]?\d[\w-]{1,30}"
    r"|[A-Za-z]{1,6}[-_/]\w{2,20})",
    re.IGNORECASE,
)
_BARE_ID = re.compile(
    r"(?<![\w.@€$£+-])#?((?:[A-Za-z]{1,5}[-_/]?)?\d[\dA-Za-z]{0,39}(?:[-_/][\dA-Za-z]{1,20}){0,5})(?![\w@]"
    r"|[.,]\d|\s?(?:€|£|\$|%"
    r"|am\b|pm\b|eur|days?\b|weeks?\b|months?\b|years?\b|hours?\b|kg\b|times\b|items?\b|pieces\b|o'clock))"
)
_SIZE = re.compile(
    r"\bsize\s*(?:is|of|:)?\s*([A-Za-z]{1,4}|\d{1,2}(?:[.,]5)?)\b|\b(?:in|i take|i wear"
    r"|i'?m) (?:an? )?(\d{1,2}(?:[.,]5)?)(?![\w.,:/-]"
    r"|\s?(?:days?|weeks?"
    r"|months?|hours?|minutes?|years?|%|€|£|euros?|parts?|january|february|march|april|may|june|july|august|september"
    r"|october|november|december)\b)|(?<![\w'])(XXS|XS|S|M|L|XL|XXL|XXXL|\dXL)(?![\w'])"
    r"|\b(small|medium|large|extra large)\b",
    re.IGNORECASE,
)
_SIZE_TOKEN = re.compile(r"(?<![\w.,])(?:xxs|xs|s|m|l|xl|xxl|xxxl|\d{1,2}(?:[.,]5)?)(?![\w'])", re.IGNORECASE)
_SIZE_LETTERS = re.compile(r"(?:xxs|xs|s|m|l|xl|xxl|xxxl|\dxl|\d{1,2}(?:[.,]5)?|small|medium|large)$", re.IGNORECASE)
_CODE = re.compile(r"\b(?=[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z])[A-Z0-9][A-Z0-9-]{3,24}\b|\b[A-Z]{5,16}\b")
_POSTCODE = re.compile(r"\b(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{4,5}(?:-\d{4})?)\b", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?:\b(?:flat|apartment|apt|unit) \w{1,5},? )?\b\d{1,5}[a-z]?,? (?:[A-Za-z.'-]+ ){0,4}(?:street|st|road|rd"
    r"|avenue|ave|lane|ln|way|row|square|sq|drive|dr"
    r"|court|place|close|boulevard|blvd|alley|quay)\b\.?(?:,? [A-Za-z0-9][\w.' -]{1,40}){0,3}"
    r"|\b(?:(?-i:[A-Z])[\w.'-]* ){0,3}[A-Z]?[\w.'-]*(?:stra(?:ß|ss)e|str\.|weg|platz|gasse|allee|street|avenue|lane"
    r"|road) \d{1,4}[a-z]?(?:,? [A-Za-z0-9][\w.' -]{1,40}){0,3}",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"\b(?i:my name is|i am|i'm|this is|name's|name:|for|under)\s+((?:[A-Z][\w'-]+)(?: (?:van|von|de|der|la|el"
    r"|bin)?\s?[A-Z][\w'-]+){0,3})"
)
_REASON = re.compile(
    r"\b(?:because (?:it|they|the \w+)(?: is| are|'s|'re| was| were)|because|since|as it|as they|reason is"
    r"|reason:|due to)"
    r"\s*(.{3,300})",
    re.IGNORECASE | re.DOTALL,
)
_STATE = re.compile(
    r"\b(?:it|they|that|which|one|order [\w#-]+|[a-z]{0,5}-?\d{3,}|(?:my|the|this|that)(?: \w+){1,3}?)(?:'s|'re"
    r"| is| are"
    r"| was| were| came| arrived)"
    r" ((?:not |too |the wrong |much |far |badly |completely )?[a-z]+(?: [a-z]+)?)(?=\s*[.,;!?]|$|\s+(?:and|so"
    r"|please|can)\b)",
    re.IGNORECASE,
)
_NO_STATE = frozenset(("here", "there", "it", "on", "in", "at", "my", "mine", "for", "possible", "ok", "okay", "back"))
_WEIGHT = re.compile(r"\b\d{1,4}(?:[.,]\d{1,3})?\s?(?:kg|kilos?|kilograms?|g|grams?|lbs?|pounds?)\b", re.IGNORECASE)
_COUNT = re.compile(r"\b(\d{1,4})\b(?![.,:]\d|[-/]\d)")
_NUMBER = re.compile(r"(?<![\w.,-])-?\d{1,12}(?:[.,]\d{1,6})?(?![\w])")
_NUMBER_WORDS = {
    w: i for i, w in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_UNSAFE_PATTERN = re.compile(r"[)\]][+*{].*[)][+*{]|\)[+*{?]|\\[1-9kKpPuUxN]|\(\?|[+*}][+*]")
_PRODUCT = re.compile(
    r"\b(?:the|an?|my|this|that|some|any|of|for|your)\s+(?:(?:the|an?|my|this|that|some|any|your)\s+)?"
    r"((?:pair of )?(?:[a-zA-Z][\w'-]*\s+){0,3}[a-zA-Z][\w'-]+)"
)


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
    for kind, marks in _KIND_MARKS[:10]:
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
    ("date", ("date", "day", "when")),
    ("time", ("time", "hour", "slot")),
    ("amount", ("amount", "price", "value", "total", "sum", "refund amount")),
    ("reason", ("reason", "why", "cause")),
    ("message", ("query", "question", "message", "text", "search", "comment", "note", "issue", "problem", "summary")),
    ("product", ("product", "item", "article", "items", "products")),
    ("name", ("name", "first name", "last name", "surname", "fullname")),
]  # fmt: skip


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
    finder = _FINDERS.get(kind)
    found = finder(message) if finder else None
    if (
        found is None
        and asked
        and kind
        in (
            "text",
            "name",
            "reason",
            "message",
            "product",
            "address",
            "time",
            "date",
            "size",
            "code",
            "id",
            "place",
            "weight",
        )
    ):
        found = _whole(kind, message)
    if found is None and asked and kind == "size" and (size := _SIZE_TOKEN.search(message)):
        found = size[0]
    if found is None:
        return None
    if kind == "date" and parameter.schema.get("format") == "date":
        found = iso_date(found) or found
    return found if _allowed(parameter, found) else None


def iso_date(text: str) -> str | None:
    """A full date (with its year, day and month unambiguous) as YYYY-MM-DD, else None."""
    folded = fold(text)
    found = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", folded)
    parts = (int(found[1]), int(found[2]), int(found[3])) if found else None
    if parts is None and (found := re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", folded)):
        parts = (int(found[3]), int(found[2]), int(found[1]))
    if parts is None:
        year, day = re.search(r"\b\d{4}\b", folded), re.search(r"\b\d{1,2}(?=\D|$)", folded)
        month = re.search(
            r"[a-z]{3,}", re.sub(r"\d(?:st|nd|rd|th)|\bof\b", lambda m: m[0][0] if m[0] != "of" else " ", folded)
        )
        months = "jan feb mar apr may jun jul aug sep oct nov dec".split()
        if not (year and day and month and month[0][:3] in months):
            return None
        parts = (int(year[0]), months.index(month[0][:3]) + 1, int(day[0]))
    try:
        return date(*parts).isoformat()
    except ValueError:
        return None


def _first(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    def find(message: str) -> str | None:
        found = pattern.search(message)
        if found is None:
            return None
        value: str = next((g for g in found.groups() if g), found[0])
        return value.strip(" ,.;")

    return find


def _phone(message: str) -> str | None:
    bare = EMAIL.sub(" ", message)
    for found in _PHONE.finditer(bare):
        digits = sum(c.isdigit() for c in found[0])
        if (6 if found[0].startswith("+") else 7) <= digits <= 15 and not _DATE.fullmatch(found[0].strip()):
            return found[0].strip()
    return None


def _identifier(message: str) -> str | None:
    bare = EMAIL.sub(" ", message)
    marked = [found[1].rstrip("-_/") for found in _MARKED_ID.finditer(bare)]
    if marked:
        return max(marked, key=lambda text: min(3, sum(c.isdigit() for c in text)))
    cleaned = _TIME.sub(" ", _DATE.sub(" ", _MONEY.sub(" ", _ADDRESS.sub(" ", bare))))
    candidates = [m[1] for m in _BARE_ID.finditer(cleaned) if sum(c.isdigit() for c in m[1]) >= 3]
    return max(candidates, key=len, default=None)


def _size(message: str) -> str | None:
    for found in _SIZE.finditer(message):
        value = next(g for g in found.groups() if g)
        if _SIZE_LETTERS.match(value) and (value.isupper() or found[1] or found[2] or found[4]):
            return value
    return None


def _product(message: str) -> str | None:
    for found in _PRODUCT.finditer(message):
        words = found[1].split()
        first = 2 if found[1].lower().startswith("pair of ") else 0
        end = next((i for i, w in enumerate(words) if i >= first and respell(w.lower()) in _AFTER_NOUN), len(words))
        if words[:end] and stem(words[0].lower()) not in _NO_PRODUCT:
            return " ".join(words[:end])
    return None


_COURTESY = re.compile(
    r"[\s,.!]*\b(?:please|pls|thanks|thank you|thx|cheers|thanks in advance|would be (?:good|great|nice"
    r"|fine))[\s.!]*$",
    re.IGNORECASE,
)


def _reason(message: str) -> str | None:
    message = _COURTESY.sub("", message)
    if found := _REASON.search(message):
        return found[1].strip(" ,.;!?")
    for found in _STATE.finditer(message):
        if found[1].split()[0].lower() not in _NO_STATE:
            return found[1].strip()
    return None


def _place(message: str) -> str | None:
    """The country or city a message names, in its own letters."""
    words = list(re.finditer(r"[^\W\d_]+(?:['’][^\W\d_]{1,3})?", message))
    for length in (1, 2, 3, 4):
        for first, last in zip(words, words[length - 1 :], strict=False):
            text = message[first.start() : last.end()]
            told = places_of(text, words_of(text))
            if told.countries or told.home:
                before = re.search(r"\b(?:northern|north|south|southern) $", message[: first.start()], re.IGNORECASE)
                return (before[0] if before else "") + text
    return None


_AFTER_NOUN = frozenset(
    words_of(
        "in on at for with to from that which is are was has and or please because still i you it of not back by size "
        "available availability left stock sold aside under until when if here there anywhere now today as thanks "
        "cheers can could would should must"
    )
)
_NO_PRODUCT = frozenset(
    stem(w)
    for w in words_of(
        "order parcel package money refund return delivery question help person account way item lot bit day time "
        "problem same other"
    )
)


def _address(message: str) -> str | None:
    found = _ADDRESS.search(EMAIL.sub(";", message))
    return None if found is None else _AFTER_ADDRESS.sub("", found[0]).strip(" ,.;") or None


_AFTER_ADDRESS = re.compile(
    r"[\s,]+(?:instead|please|pls|thanks?|thank you|now|from now on|and|or|because|not|is|was)\b.*$", re.IGNORECASE
)


def _message(message: str) -> str | None:
    return message.strip()[:LONGEST_TEXT] or None


_FINDERS: dict[str, Callable[[str], str | None]] = {
    "email": _first(EMAIL),
    "phone": _phone,
    "date": _first(_DATE),
    "time": _first(_TIME),
    "address": _address,
    "postcode": _first(_POSTCODE),
    "place": _place,
    "weight": _first(_WEIGHT),
    "id": _identifier,
    "size": _size,
    "code": _first(_CODE),
    "name": _first(_NAME),
    "reason": _reason,
    "message": _message,
    "product": _product,
    "quantity": _first(_COUNT),
}


def _whole(kind: str, message: str) -> str | None:
    """A whole message as the value that was asked for, when it can be one."""
    text = re.sub(
        r"^(?:(?:it'?s|it is|it weighs|it says|that'?s|my [\w -]{1,20}? is|the [\w -]{1,20}? is|sure,?|yes,?"
        r"|ok,?|about|at|on|say|please use)\s+)+",
        "",
        message.strip(),
        flags=re.IGNORECASE,
    )
    text = _COURTESY.sub("", text).strip(" .!")
    most = {"text": 400, "reason": 400, "message": LONGEST_TEXT, "address": 200}.get(kind, 60)
    if not text or len(text) > most or (text.endswith("?") and kind != "message"):
        return None
    if kind in ("id", "time", "date", "address", "weight") and not any(c.isdigit() for c in text):
        return None
    if kind == "id" and (" " in text or EMAIL.search(text)):
        return None
    if kind == "size" and not _SIZE_LETTERS.match(text):
        return None
    return text


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
    """The only choice that shares an idea with the message: "smashed" for "damaged"."""
    ideas = concepts_of(words_of(message))
    alike = [c for c in parameter.choices if isinstance(c, str) and concepts_of(words_of(c.replace("_", " "))) & ideas]
    return alike[0] if len(alike) == 1 else None


def _boolean(message: str) -> bool | None:
    folded = fold(message).strip()
    if re.match(r"(?:yes|yeah|yep|sure|ok|okay|true|please do|of course)\b", folded):
        return True
    return False if re.match(r"(?:no|nope|false|don'?t|not)\b", folded) else None


def _number(parameter: Parameter, kind: str, message: str, *, asked: bool) -> int | float | None:
    text: str | None = None
    if kind == "id":
        text = _identifier(message)
    elif kind == "weight":
        heavy = _WEIGHT.search(message)
        text = re.match(r"[\d.,]+", heavy[0])[0] if heavy else message.strip() if asked else None  # type: ignore[index]
    elif (counted := _counted(parameter, message)) is not None:
        text = counted
    elif kind == "amount" and (found := _MONEY.search(message)):
        text = found[1] or found[2]
    elif kind in ("quantity", "number", "amount"):
        bare = _TIME.sub(" ", _DATE.sub(" ", _MONEY.sub(" ", EMAIL.sub(" ", message))))
        marked = _MARKED_ID.sub(" ", bare) if kind == "quantity" else bare
        found = _NUMBER.search(marked)
        text = found[0] if found and (asked or kind != "number") else None
        if text is None and kind != "amount":
            text = next(
                (str(_NUMBER_WORDS[w]) for w in words_of(message) if w in _NUMBER_WORDS and (asked or w != "one")), None
            )
    if text is None or not re.fullmatch(r"-?\d+(?:[.,]\d+)?", text):
        return None
    value = float(text.replace(",", "."))
    if parameter.type == "integer" and value != int(value):
        return None
    number: int | float = int(value) if value == int(value) and "." not in text and "," not in text else value
    low, high = parameter.schema.get("minimum"), parameter.schema.get("maximum")
    if (isinstance(low, int | float) and number < low) or (isinstance(high, int | float) and number > high):
        return None
    return number


def _counted(parameter: Parameter, message: str) -> str | None:
    """The number before the thing a parameter counts: "three weeks" for ``weeks``."""
    for word in parameter.words.split():
        if word in _COUNTABLE and (
            found := re.search(rf"\b(\d{{1,4}}|{'|'.join(_NUMBER_WORDS)})[ -]{word.rstrip('s')}", fold(message))
        ):
            return str(_NUMBER_WORDS.get(found[1], found[1]))
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
    pattern = parameter.schema.get("pattern")
    if not isinstance(pattern, str) or len(pattern) > 80 or _UNSAFE_PATTERN.search(pattern):
        return True
    try:
        return re.search(pattern, value[:100]) is not None
    except (re.error, RecursionError, OverflowError):
        return True
