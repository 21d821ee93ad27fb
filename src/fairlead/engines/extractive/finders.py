"""What stands in a customer's words, by kind: an e-mail address, a date, an order number, a product, what is wrong.

Pure functions from a message to a text of it, copied exactly, or None. Knows no tools and no schemas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from datetime import date

from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive.places import places_of
from fairlead.engines.extractive.text import respell, stem

LONGEST_TEXT = 1000  # characters of a free-text argument

EMAIL = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}")
_PHONE = re.compile(r"(?<![\w+])\+?\(?\d[\d ()/-]{5,18}\d(?!\w)")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?-i:Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)\b)"
DATE = re.compile(
    rf"\b\d{{4}}-\d{{1,2}}-\d{{1,2}}\b|\b\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}\b"
    rf"|\b(?:{_WEEKDAY},? (?:the )?)?\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b(?:,? \d{{4}}\b)?"
    rf"|\b(?:{_WEEKDAY},? )?{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?"
    rf"|\b(?:{_WEEKDAY},? )?the \d{{1,2}}(?:st|nd|rd|th)\b|\b{_WEEKDAY} \d{{1,2}}(?:st|nd|rd|th)\b"
    rf"|\b(?:today|tonight|tomorrow|the day after tomorrow|(?:this|next) (?:week|weekend|month)"
    rf"|(?:a week on |next |this )?{_WEEKDAY}(?: week| after next)?)\b|(?<![\d/])(?!24/7)\d{{1,2}}/\d{{1,2}}(?![\d/])",
    re.IGNORECASE,
)
_HOUR = r"(?:\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
TIME = re.compile(
    r"\b\d{1,2}[:.]\d{2}(?!\d)\s?(?:am\b|pm\b)?|\b\d{1,2}\s?(?:am|pm|o'clock)\b|\b(?:noon|midday|midnight)\b"
    rf"|\b(?:half(?: past)?|(?:quarter|(?:five|ten|twenty|\d{{1,2}})(?: minutes)?) (?:past|to)) {_HOUR}\b"
    rf"|\b{_HOUR} (?:o'clock\b|in the (?:morning|afternoon|evening)\b)",
    re.IGNORECASE,
)
_DAYTIME = r"(?:morning|afternoon|evening|night|lunchtime)s?"
# When something suits: a day, a time, or both.
_MOMENT = re.compile(
    rf"(?:{DATE.pattern})(?:,? (?:at |around |about |after |before |from )?(?:{TIME.pattern})"
    rf"|,? (?:in the )?{_DAYTIME})?"
    rf"|\b(?:this |in the |any |every |weekday )?{_DAYTIME}\b|\b(?:on )?(?:weekdays|weekends)\b|\b(?:any ?time|now)\b"
    rf"|\b(?:after|before|around|about|from)? ?(?:{TIME.pattern})|\b(?:after|before|around) \d{{1,2}}\b",
    re.IGNORECASE,
)
MONEY = re.compile(
    r"(?<!-)(?:[€$£]|\b(?:eur|usd|gbp|chf)\b)\s?(\d{1,9}(?:[.,]\d{1,2})?)|"
    r"(?<![\w.,-])(\d{1,9}(?:[.,]\d{1,2})?)\s?(?:€|£|\$|(?:eur|euros?|usd|gbp|chf|pounds?|dollars?|bucks)\b)",
    re.IGNORECASE,
)
MARKED_ID = re.compile(
    r"\b(?:orders?|order (?:number|no|nr|id|code)|number|no\.?|nr\.?|id|reference|ref|ticket|tracking(?: number"
    r"| code)?|invoice|booking|customer|purchase|parcel|shipment|account|acct|subscription|membership|contract|policy"
    r"|case|claim|hire|rental|reservation)"
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
SIZE_TOKEN = re.compile(r"(?<![\w.,])(?:xxs|xs|s|m|l|xl|xxl|xxxl|\d{1,2}(?:[.,]5)?)(?![\w'])", re.IGNORECASE)
_SIZE_LETTERS = re.compile(r"(?:xxs|xs|s|m|l|xl|xxl|xxxl|\dxl|\d{1,2}(?:[.,]5)?|small|medium|large)$", re.IGNORECASE)
CODE = re.compile(r"\b(?=[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z])[A-Z0-9][A-Z0-9-]{3,24}\b|\b[A-Z]{5,16}\b")
_SURE_CODE = re.compile(r"\b[A-Z]{3,16}\d{1,3}\b")  # no order number looks like it
_POSTCODE = re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b", re.IGNORECASE)
# Bare digits are a postcode where the words around them say so: "zip 90210", "ship to 8005", "8005 Zürich".
_DIGIT_POSTCODE = re.compile(
    r"\b(?i:zip|zip ?code|post ?code|postal code|plz)\b\W*(?i:is |of )?\W*(\d{4,5}(?:-\d{4})?)\b"
    r"|\b(?i:to|in|near|around|at) (\d{4,5}(?:-\d{4})?)\b(?!\s*(?i:€|£|\$|eur|pounds|people))"
    r"|\b(\d{4,5}) (?=[A-ZÀ-Þ][a-zß-ÿ]{2})"
)
ADDRESS = re.compile(
    r"(?:\b(?:flat|apartment|apt|unit) \w{1,5},? )?\b\d{1,5}[a-z]?,? (?:[A-Za-z.'-]+ ){0,4}(?:street|st|road|rd"
    r"|avenue|ave|lane|ln|way|row|square|sq|drive|dr"
    r"|court|place|close|boulevard|blvd|alley|quay|terrace|grove|gardens|crescent|mews|walk|rise|view|parade|yard|wharf"
    r"|hill|park|green|end|gate|fields?|bank|circus|parkway|highway)\b\.?(?:,? [A-Za-z0-9][\w.' -]{1,40}){0,3}"
    r"|\b(?:(?:flat|apartment|apt|unit|suite) \w{1,5},? )?\b\d{1,5}[a-z]?,? (?-i:[A-Z][\w'-]+(?: [A-Z][\w'-]+){0,3})"
    r",(?:,? (?-i:[A-Z0-9])[\w.' -]{1,40}){1,3}"
    r"|\b(?:flat|apartment|apt|unit|suite) \w{1,5}, (?-i:[A-Z][\w'-]+(?: [A-Z][\w'-]+){0,3})"
    r"(?:,? (?-i:[A-Z0-9])[\w.' -]{1,40}){1,3}"
    r"|(?-i:\b[A-ZÀ-Þ][\w.'-]+(?: [A-ZÀ-Þ][\w.'-]+){0,3} \d{1,4}[a-z]?,? \d{4,5} [A-ZÀ-Þ][\w'-]+(?: [A-ZÀ-Þ][\w'-]+)?)"
    r"|\b(?:(?-i:[A-Z])[\w.'-]* ){0,3}[A-Z]?[\w.'-]*(?:stra(?:ß|ss)e|str\.|weg|platz|gasse|allee|street|avenue|lane"
    r"|road) \d{1,4}[a-z]?(?:,? [A-Za-z0-9][\w.' -]{1,40}){0,3}",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"\b(?i:my name is|i am|i'm|this is|name's|name:|for|under(?: the)?(?: name)?(?: of)?|in the name of)\s+"
    r"((?:[A-Z][\w'-]+)(?: (?:van|von|de|der|la|el"
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
    r"| was| were| came| arrived| turned (?:up|out)(?: to be)?)"
    r" ((?:not |too |the wrong |much |far |badly |completely )?[a-z]+(?: [a-z]+| (?:at|to) (?:the )?[a-z]+)?)"
    r"(?=\s*[.,;!?]|$|\s+(?:and|so|please|can|on|in|at|when|after|any)\b)",
    re.IGNORECASE,
)
_NO_STATE = frozenset(("here", "there", "it", "on", "in", "at", "my", "mine", "for", "possible", "ok", "okay", "back"))
WEIGHT = re.compile(r"\b\d{1,4}(?:[.,]\d{1,3})?\s?(?:kg|kilos?|kilograms?|g|grams?|lbs?|pounds?)\b", re.IGNORECASE)
_COUNT = re.compile(r"\b(\d{1,4})\b(?![.,:]\d|[-/]\d)")
NUMBER = re.compile(r"(?<![\w.,-])-?\d{1,12}(?:[.,]\d{1,6})?(?![\w])")
NUMBER_WORDS = {
    w: i
    for i, w in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {w: 10 * i for i, w in enumerate("thirty forty fifty sixty seventy eighty ninety".split(), 3)}
ROUND_WORDS = {"dozen": 12, "hundred": 100, "thousand": 1000}


_PRODUCT = re.compile(
    r"\b(?:the|an?|my|our|this|that|these|those|some|any|of|for|your"
    rf"|(?:{'|'.join(w for w in NUMBER_WORDS if w not in ('zero', 'one'))}|hundred|dozen|\d{{1,4}})"
    r"(?= (?:[a-z-]+ ){0,2}[a-z-]+s\b))\s+"
    r"(?:(?:the|an?|my|this|that|some|any|your)\s+)?"
    r"((?:pair of )?(?:[a-zA-Z][\w'-]*\s+){0,3}[a-zA-Z][\w'-]+)",
    re.IGNORECASE,
)


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
        if (6 if found[0].startswith("+") else 7) <= digits <= 15 and not DATE.fullmatch(found[0].strip()):
            return found[0].strip()
    return None


def _postcode(message: str) -> str | None:
    bare = DATE.sub(" ", MONEY.sub(" ", message))
    if found := _POSTCODE.search(bare):
        return found[0]
    found = _DIGIT_POSTCODE.search(bare)
    return next(group for group in found.groups() if group) if found else None


def _code(message: str) -> str | None:
    """A voucher code: what looks like one, where the message speaks of codes or holds little else; else a sure one."""
    of_codes = _OF_CODES.search(message) is not None or len(message.split()) <= 3
    found = (CODE if of_codes else _SURE_CODE).search(EMAIL.sub(" ", message))
    return found[0] if found else None


_OF_CODES = re.compile(r"\b(?:code|voucher|coupon|gift ?card|gift|promo\w*|discount|token|redeem)s?\b", re.IGNORECASE)


def identifier(message: str) -> str | None:
    """The likeliest number of an order, a ticket or the like: what is called one, else what looks like one."""
    bare = EMAIL.sub(" ", message)
    marked = [found[1].rstrip("-_/") for found in MARKED_ID.finditer(bare)]
    if marked:
        return max(marked, key=lambda text: min(3, sum(c.isdigit() for c in text)))
    candidates = [m[1] for m in _BARE_ID.finditer(_uncounted(bare)) if _telling(m[1])]
    return max(candidates, key=len, default=None)


def _telling(text: str) -> bool:
    """Whether a token has the digits of an identifier, or is a mixed code in capitals: "QX7L2P"."""
    digits = sum(c.isdigit() for c in text)
    return digits >= 3 or (digits == 2 and len(text) >= 5 and text.isupper() and not _SURE_CODE.fullmatch(text))


def formed_identifiers(form: re.Pattern[str], message: str, called: Container[str] = ()) -> list[str]:
    """Everything in a message that can be an identifier of this form, in the order in which it was written.

    A number that could be something else is left out: a part of a phone number, a sum, a day, a year, an address, and
    what is called a phone number, a postcode or the like, unless the identifier is itself ``called`` so.
    """
    bare = EMAIL.sub(" ", message)
    bare = _PHONE.sub(lambda found: found[0] if found[0].isdigit() else " ", bare)
    bare = _CALLED.sub(lambda found: found[0] if found[1].lower() in called else " ", bare)
    found = []
    for token in _BARE_ID.finditer(_YEAR.sub(" ", _uncounted(bare))):
        if _DENIED.search(token.string[: token.start()]):
            continue
        before = _LETTERS_BEFORE.search(token.string[: token.start(1)])
        ways = (token[1], f"{before[0]}{token[1]}" if before else "")
        found += [way for way in ways if way and form.search(way[:100])][:1]
    return list(dict.fromkeys(found))


def misshapen_identifiers(message: str) -> list[str]:
    """What a message calls an order number or the like, or what is written like one, whatever its form."""
    bare = _PHONE.sub(lambda found: found[0] if found[0].isdigit() else " ", EMAIL.sub(" ", message))
    cleaned = _YEAR.sub(" ", _uncounted(bare))
    marked = [found[1].rstrip("-_/") for found in MARKED_ID.finditer(cleaned)]
    plain = [found[1] for found in _BARE_ID.finditer(cleaned)]
    return [text for text in dict.fromkeys([*marked, *plain]) if any(c.isdigit() for c in text)]


def _uncounted(message: str) -> str:
    """A message without what is no identifier: times, days, sums, addresses."""
    return TIME.sub(" ", DATE.sub(" ", MONEY.sub(" ", ADDRESS.sub(" ", message))))


_CALLED = re.compile(
    r"\b(phone|mobile|telephone|tel|cell|fax|post ?code|postal code|zip(?: code)?|plz|pin|iban|bic|card|account|acct"
    r"|customer|article|sku|meter|flat|room|tracking)\b\.?(?: (?:number|no|nr|code|id|is|was|to|ending(?: in)?))*"
    r"[ .:=#]*[A-Za-z]{0,3}[ -]?\d[\w-]*",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\b(?:in|since|of|from|until|before|after|year) (?:19|20)\d\d\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|instead of|rather than|isn'?t)(?: the| my)?(?: order| number| no\.?)* ?#?$", re.IGNORECASE
)
_LETTERS_BEFORE = re.compile(r"(?<![\w-])[A-Za-z]{1,5}[ .]?#?$")


def _size(message: str) -> str | None:
    """The size a message wants; of several the one that is not there already: "I have an M but need an L"."""
    sizes = []
    for found in _SIZE.finditer(message):
        value = next(g for g in found.groups() if g)
        before = message[max(0, found.start() - 24) : found.start()]
        if _SIZE_LETTERS.match(value) and (value.isupper() or found[1] or found[2] or found[4]):
            sizes.append((bool(_NOT_THIS.search(before)), value))
    wanted = [value for unwanted, value in sizes if not unwanted]
    return wanted[0] if wanted else None


_NOT_THIS = re.compile(
    r"\b(?:instead of|rather than|not|from|picked|ordered|bought|chose|took|got|have|had|sent|wear)(?: me| us)?"
    r"(?: in)?(?: an?| the| my)?(?: size)? ?$",
    re.IGNORECASE,
)


def _product(message: str) -> str | None:
    for found in _PRODUCT.finditer(message):
        words = found[1].split()
        first = 2 if found[1].lower().startswith("pair of ") else 0
        end = next((i for i, w in enumerate(words) if i >= first and _ends_noun(w)), len(words))
        if words[:end] and stem(words[0].lower()) not in NO_PRODUCT:
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
    if found := _DOES.search(message):
        return found[1].strip()
    clause = next((c for c in _CLAUSES.split(message)[1:] if _TELLS.match(c) and not _STILL_ASKS.search(c)), None)
    return clause.strip(" .,;!-–—") if clause else None


_CLAUSES = re.compile(r"(?:[,;.!]|\s[-–—])\s+(?:and |but |so |as )?")
# A clause of its own that says what happened: "..., my mother has fallen ill".
_TELLS = re.compile(
    r"(?:(?:my|our|the|i|we|it|they|he|she)\b(?: \w+){0,4}? (?:have|has|had|is|are|was|were|got|broke|fell|moved|found"
    r"|bought|lost|can'?t|cannot|won'?t|don'?t|didn'?t|isn'?t)|(?:i|we|they|he|she)'(?:ve|m|re|s))(?: \S+){1,12}[.!]?$",
    re.IGNORECASE,
)
_STILL_ASKS = re.compile(
    r"\?|\b(?:please|number|order|booking|ref|name|e-?mail|phone|want|like|need|wish|address is|it is|it'?s)\b|@"
    r"|\d{3,}",
    re.IGNORECASE,
)


_DOES = re.compile(
    r"\b(?:it|they|that|which|one|(?:my|the|this|that|these|those|both)(?: \w+){1,3}?) "
    r"((?:keeps?|kept|won'?t|doesn'?t|don'?t|didn'?t|isn'?t|aren'?t|never|stopped|makes?|lost|broke|leaks?|smells?|hums?"
    r"|rattles?|hurts?|pinch(?:es)?|rubs?|shrank|faded|fell|looks?|feels?|fits?)(?: [\w'-]+){0,5})(?=\s*[.,;!?]|$)",
    re.IGNORECASE,
)


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


def _ends_noun(word: str) -> bool:
    return respell(word.lower()) in AFTER_NOUN or any(each.isdigit() for each in word)


AFTER_NOUN = frozenset(
    words_of(
        "in on at for with to from that which is are was has and or please because still i you it of not back by size "
        "available availability left stock sold aside under until when if here there anywhere now today as thanks "
        "cheers can could would should must off out pls plz thx arrived came turned broke got per again but so keep "
        "keeps kept yet comes come fall falls fell look looks feel feels fit fits do does did have had having run "
        "runs go goes smell smells make makes stop stopped will wont cant don't doesn't won't isn't aren't fitted "
        "stuck hums once too very"
    )
)
NO_PRODUCT = frozenset(
    stem(w)
    for w in words_of(
        "order parcel package money refund return delivery question help person account way item lot bit day time "
        "problem same other"
    )
)


def _address(message: str) -> str | None:
    found = ADDRESS.search(EMAIL.sub(";", message))
    return None if found is None else _AFTERADDRESS.sub("", found[0]).strip(" ,.;") or None


_AFTERADDRESS = re.compile(
    r"[\s,]+(?:instead|please|pls|thanks?|thank you|now|from now on|and|or|because|not|is|was)\b.*$", re.IGNORECASE
)


def _fault(message: str) -> str | None:
    """What is wrong, where it is said in so many words; else the message as it stands."""
    if found := _CAME_WITH.search(_COURTESY.sub("", message)):
        return found[1].strip()
    return _reason(message) or _message(message)


_CAME_WITH = re.compile(
    r"\b(?:came|arrived|turned up|has|have|had|got)(?: here)? (?:with (?:a |an |some )?(?!out\b)|(?=without\b))"
    r"([a-z][\w-]*(?: [\w-]+){0,4}?)(?=\s*[.,;!?]|$|\s+(?:and|so|please|can|in|on)\b)",
    re.IGNORECASE,
)


_COLOUR = re.compile(
    r"\b(?:(?:light|dark|pale|deep|bright|navy|royal|sky|sage|olive|forest|mint|dusty|off|slate|stone|baby|burnt)[ -])?"
    r"(?:red|blue|green|yellow|orange|purple|violet|pink|brown|black|white|gr[ae]y|beige|cream|ivory|navy|teal"
    r"|turquoise|burgundy|maroon|olive|sage|rust|mustard|ochre|charcoal|anthracite|silver|gold|copper|lilac|lavender"
    r"|coral|salmon|khaki|tan|taupe|terracotta|indigo|emerald|mint|plum|sand|natural|oak|walnut)\b",
    re.IGNORECASE,
)


def _message(message: str) -> str | None:
    if found := QUOTED.search(message):
        return found[1].strip()
    return message.strip()[:LONGEST_TEXT] or None


QUOTED = re.compile(r"[\"“”«]([^\"“”«»]{3,400})[\"“”»]")


def _moment(message: str) -> str | None:
    found = _MOMENT.search(_PHONE.sub(" ", message))
    return found[0].strip(" ,") if found else None


def _time(message: str) -> str | None:
    """A time of day; an hour alone where it stands as one: "at 8", "tonight at eight"."""
    if found := TIME.search(message):
        return found[0].strip(" ,.;")
    hour = _BARE_HOUR.search(message)
    return hour[1] if hour else None


_BARE_HOUR = re.compile(
    rf"\b(?:at|around|about|by|after|before|from) ({_HOUR})(?=\s*(?:[.,;!?](?!\d)|$)|\s+(?:for|on|under|in the|with|if"
    r"|and|please|tonight|today|tomorrow|or so|works|would|this|next|sharp))",
    re.IGNORECASE,
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")


FINDERS: dict[str, Callable[[str], str | None]] = {
    "email": _first(EMAIL),
    "iban": _first(_IBAN),
    "phone": _phone,
    "date": _first(DATE),
    "time": _time,
    "moment": _moment,
    "address": _address,
    "postcode": _postcode,
    "place": _place,
    "weight": _first(WEIGHT),
    "id": identifier,
    "size": _size,
    "code": _code,
    "name": _first(_NAME),
    "reason": _reason,
    "message": _message,
    "product": _product,
    "fault": _fault,
    "colour": _first(_COLOUR),
    "quantity": _first(_COUNT),
}


def whole(kind: str, message: str) -> str | None:
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
    if kind in ("id", "date", "address", "weight", "postcode") and not any(c.isdigit() for c in text):
        return None
    if kind == "id" and (" " in text or EMAIL.search(text)):
        return None
    if kind == "size" and not _SIZE_LETTERS.match(text):
        return None
    return text
