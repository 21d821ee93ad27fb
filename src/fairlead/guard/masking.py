"""Masking personal data one way, for what is stored: e-mail addresses, phone and card numbers, IBANs.

One scan from left to right, no back-tracking beyond a constant, so the time grows with the length of the text whatever
an attacker writes. Each decision looks at the candidate, at the *masked* text before it and at most at a word after
it; that is what makes masking idempotent. Knows no names or places: those need a model.

When in doubt: a number that is written like a phone number is masked; one that is written like a price, a date, an
address of a machine or a plain code is masked only after a word such as "call". Out of scope: addresses spelled out
("joe at example dot com") or percent-encoded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Final

import phonenumbers

from fairlead.errors import ChoiceUnknown

KINDS: Final = ("email", "phone", "card", "iban")
REGIONS: Final = ("US", "IN", "CN", "GB", "DE", "FR", "IT")
"""Where a number without a country code, separators or a telling word is looked up, with the phonenumbers library."""
WITHOUT_ZERO: Final = frozenset({"US", "IN", "CN"})
"""Of these, where national numbers are not dialled with a leading zero. Elsewhere a plain code would pass for one."""
MOST_LOOKUPS: Final = 16
"""A text with more undecided numbers than this is a list of numbers: the rest is masked without looking them up."""

# Possessive quantifiers (++): a token is read once. Names and hosts in any script (RFC 6531).
_LOCAL_BACKWARDS: Final = re.compile(r"[\w.+-]++")
_HOST: Final = re.compile(r"[\w-]++(?:\.[\w-]++)++")
_TOP_LABEL: Final = re.compile(r"\.(?:xn--[\w-]+|[^\W\d_]{2,})")
_DIGIT: Final = re.compile(r"\d")
_SEPARATORS: Final = r" \u00a0\u202f().\-\u2010\u2011\u2013/"
# Begins with a digit so that the search can skip to one: the first after an IBAN's country, or the first of at least 7.
_CANDIDATE: Final = re.compile(
    rf"\d(?:(?<=[A-Za-z]{{2}}\d)([0-9])(?=[ -]?[A-Za-z0-9]{{4}})|(?=(?:[{_SEPARATORS}]{{0,3}}\d){{6}}))"
)
_RUN: Final = re.compile(rf"\d++(?:[{_SEPARATORS}]{{1,3}}+\d++){{0,18}}+")
_CARD_MARKS: Final = frozenset(" -.\u00a0\u202f")
_GROUP: Final = re.compile(r"\d+")
_INSIDE_CODE: Final = re.compile(r"\d[^\w\s]{1,3}$")
_EXTENSION: Final = re.compile(r" ?(?:x|ext\.?|extension) ?\d++", re.IGNORECASE)
_IBAN: Final = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9])*+")

_CONTEXT: Final = 48
_TAIL: Final = 8
"""Characters before a number that tell an amount of money, or the inside of a code."""
_WORD: Final = re.compile(
    r"(?<![\w\[])(?:"
    r"(?P<phone>phone|tele?ph|telefon|tel|mobile?|móvil|cell|call|ring|dial|fax|whats ?app|sms|text|reach|contact|"
    r"hotline|handy|anruf|rufnummer|appel|llam|registered|answering|desk|messages? to)"
    r"|(?P<code>order|bestell|commande|pedido|track|parcel|paket|invoice|rechnung|ref|ticket|case|account|konto|id\b|"
    r"sku|serial|item|article|isbn|version|zip|postcode|pin\b|otp|code|booking|policy|customer|product|transaction|"
    r"amount|total|price|preis|costs?\b|budget|between|range)"
    r")"
)
"""Of a text without capitals: to ignore the case of each letter would take four times as long."""
# As under a letter: "9885 1152 office". Not before a bracket: there a number may have stood before it was masked.
_AFTER: Final = re.compile(r"[ -]{1,2}\(?(?:office|fax|mobile|home|work|cell|direct)(?=[^\w\[]|$)", re.IGNORECASE)
_MONEY: Final = re.compile(r"[$€£¥₹]\s?$|\b(?:usd|eur|gbp|inr|chf)\s?$", re.IGNORECASE)
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:([ .\u00a0\u202f])\d{3})(?:\1\d{3})*$")
_DATE: Final = re.compile(r"(?:(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d\d)(?!\d)")
_IP: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}$")
_YEARS: Final = re.compile(r"(?:19|20)\d\d\D{1,3}(?:19|20)\d\d$")
_NORTH_AMERICA: Final = re.compile(r"(?:1[-. ])?\d{3}(?:\) ?|[-./])\d{3}[-. ]\d{4}$")

_IBAN_LENGTH: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
"""Country to length in characters (SWIFT IBAN registry)."""


class Masker:
    """Masks the given kinds (of ``KINDS``): ``Masker({"email"})("I am joe@x.org")`` is ``"I am [email]"``.

    Raises ChoiceUnknown for another kind. Stateless, safe to share among threads.
    """

    def __init__(self, kinds: Iterable[str] = KINDS, *, regions: tuple[str, ...] = REGIONS) -> None:
        self.kinds = frozenset(kinds)
        for kind in self.kinds.difference(KINDS):
            raise ChoiceUnknown(kind="kind of personal data", name=kind, choices=", ".join(KINDS))
        self._regions = regions
        self._email = "email" in self.kinds
        self._numbers = bool(self.kinds - {"email"})

    def __call__(self, text: str) -> str:
        """``text`` with each occurrence replaced by its kind in brackets. Masking twice changes nothing more."""
        if self._email and "@" in text:
            text = _mask_emails(text)
        if self._numbers and _has_digit(text):
            first = _CANDIDATE.search(text)
            if first is not None:
                return _Scan(text, self.kinds, self._regions).masked(first)
        return text

    def mask_json(self, value: Any) -> Any:
        """A copy of a JSON value with its texts masked, keys untouched.

        A whole number that is somebody's number becomes the placeholder, a text.
        """
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {key: self.mask_json(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask_json(item) for item in value]
        if isinstance(value, int) and abs(value) >= 1_000_000:
            text = str(value)
            masked = self(text)
            return value if masked == text else masked
        return value


def mask_text(text: str, kinds: Iterable[str] = KINDS) -> str:
    """``text`` with the given kinds of personal data masked; see ``Masker``."""
    return _masker(frozenset(kinds))(text)


def mask_json(value: Any, kinds: Iterable[str] = KINDS) -> Any:
    """A JSON value with the given kinds of personal data masked; see ``Masker.mask_json``."""
    return _masker(frozenset(kinds)).mask_json(value)


@functools.lru_cache(maxsize=32)
def _masker(kinds: frozenset[str]) -> Masker:
    return Masker(kinds)


def _has_digit(text: str) -> bool:
    """Whether a digit of any script is in ``text``. Ten searches for a character are far faster than one for ten."""
    if not text.isascii():
        return _DIGIT.search(text) is not None
    return (
        "0" in text or "1" in text or "2" in text or "3" in text or "4" in text
        or "5" in text or "6" in text or "7" in text or "8" in text or "9" in text
    )  # fmt: skip


def _mask_emails(text: str) -> str:
    """Each address masked up to the last label that can end a host's name: what is glued on after it may be another."""
    out: list[str] = []
    at = seen = 0
    sign = text.find("@")
    while sign >= 0:
        local = _LOCAL_BACKWARDS.match(text[max(at, seen) : sign][::-1])
        end = _host_end(text, sign + 1) if local else 0
        if local and end:
            out += (text[at : sign - local.end()], "[email]")
            at = end
        seen = sign + 1
        sign = text.find("@", max(at, seen))
    out.append(text[at:])
    return "".join(out)


def _host_end(text: str, start: int) -> int:
    """Where the name of a host that begins at ``start`` ends, 0 if there is none."""
    end = 0
    host = _HOST.match(text, start)
    if host:
        for label in _TOP_LABEL.finditer(text, start, host.end()):
            end = label.end()
    return end


class _Scan:
    """One pass over one text. ``_before`` is the end of what is masked so far, the only past a decision may look at."""

    def __init__(self, text: str, kinds: frozenset[str], regions: tuple[str, ...]) -> None:
        self._text = text
        self._out: list[str] = []
        self._before = ""
        self._regions = regions
        self._lookups = 0
        self._iban = "iban" in kinds
        self._card = "card" in kinds
        self._phone = "phone" in kinds

    def masked(self, match: re.Match[str] | None) -> str:
        """The masked text; ``match`` is its first candidate."""
        at = 0
        while match is not None:
            at = self._take_iban(at, match.start()) if match[1] else self._take_number(at, match.start())
            match = _CANDIDATE.search(self._text, at)
        self._write(self._text[at:])
        return "".join(self._out)

    def _write(self, text: str) -> None:
        self._out.append(text)
        self._before = (self._before + text[-_CONTEXT:])[-_CONTEXT:]

    def _take_iban(self, at: int, digit: int) -> int:
        """Write up to and with the IBAN whose third character is at ``digit``, masked; where to go on."""
        start = digit - 2
        end = _iban_end(self._text, start) if self._iban and start >= at else 0
        if not end:
            return self._take_number(at, digit)
        self._write(self._text[at:start])
        self._write("[iban]")
        return end

    def _take_number(self, at: int, begin: int) -> int:
        """Write up to and with the number that begins at ``begin`` masked, or its first group as it is; where to go on.

        Numbers of more groups are tried before those of fewer.
        """
        before = self._text[max(at, begin - 2) : begin]
        lead = before[len(before.rstrip("+(")) :]
        self._write(self._text[at : begin - len(lead)])
        ends: list[tuple[int, int]] = []
        digits, first_end = 0, 0
        run = _RUN.match(self._text, begin)
        assert run is not None
        for group in _GROUP.finditer(self._text, begin, run.end()):
            start, end = group.span()
            first_end = first_end or end
            digits += end - start
            if digits > 19:
                break
            if digits >= 7:
                ends.append((end, digits))
        stop, kind = 0, "[card]"
        if self._card and digits >= 13:
            stop = next((end for end, n in reversed(ends) if n >= 13 and _is_card(self._text[begin:end], n)), 0)
        if not stop and self._phone and ends:
            stop, kind = self._phone_end(lead, begin, ends), "[phone]"
        if not stop:
            self._write(lead + self._text[begin:first_end])
            return first_end
        # A plus sign belongs to the number, and an opening bracket that is closed in it.
        self._write(lead.rstrip("+(" if ")" in self._text[begin:stop] else "+") + kind)
        return stop

    def _phone_end(self, lead: str, begin: int, ends: list[tuple[int, int]]) -> int:
        """Where the phone number that begins at ``begin`` ends, with its extension; 0 if none does."""
        before = self._before
        if "+" not in lead and _INSIDE_CODE.search(before[-_TAIL:]):
            return 0
        hint: str | None = None
        for end, digits in reversed(ends):
            number = self._text[begin:end]
            likely = _likely_phone(lead, number, digits)
            if likely is None:
                hint = _hint(before) if hint is None else hint
                hint = "phone" if _AFTER.match(self._text, end) else hint
                likely = self._is_phone_by_hint(number, digits, hint)
            if likely:
                extension = _EXTENSION.match(self._text, end)
                return extension.end() if extension else end
        return 0

    def _is_phone_by_hint(self, number: str, digits: int, hint: str) -> bool:
        """A number whose form says nothing: a telling word before it decides, else whether it could be dialled."""
        if hint:
            return hint == "phone"
        return digits >= 9 and not _THOUSANDS.match(number) and self._is_valid(number)

    def _is_valid(self, number: str) -> bool:
        if self._lookups >= MOST_LOOKUPS:
            return True
        self._lookups += 1
        return any(
            _is_valid_in(number, region) for region in self._regions if (number[0] != "0") == (region in WITHOUT_ZERO)
        )


def _likely_phone(lead: str, number: str, digits: int) -> bool | None:
    """Whether ``number``, written after ``lead`` (a plus sign, a bracket or nothing), is a phone number by its form.

    None when the form does not say.
    """
    if "+" in lead:
        return digits == 11 if number[0] == "1" else 8 <= digits <= 15
    if number.startswith("00") and number[2:3] not in ("0", ""):
        return 10 <= digits <= 17
    if digits > 13 or _DATE.match(number) or _IP.match(number) or _YEARS.match(number):
        return False
    if "(" in lead and ")" in number:
        return digits >= 8
    if digits != len(number) and (_NORTH_AMERICA.match(number) or _is_grouped_from_zero(number, digits)):
        return True
    return None


def _hint(before: str) -> str:
    """What the words before a number say it is: ``phone``, ``code`` or nothing. The nearest word wins."""
    if _MONEY.search(before[-_TAIL:]):
        return "code"
    hint = ""
    for word in _WORD.finditer(before.casefold()):
        hint = str(word.lastgroup)
    return hint


def _is_valid_in(number: str, region: str) -> bool:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    kind = phonenumbers.number_type(parsed)
    if region in ("IN", "CN"):  # their fixed lines take so many forms that every second plain code would pass
        return bool(kind == phonenumbers.PhoneNumberType.MOBILE)
    return bool(kind != phonenumbers.PhoneNumberType.UNKNOWN)


def _is_grouped_from_zero(number: str, digits: int) -> bool:
    """National form with a leading zero: 0487 23 46 71, 089/123 456. The separators after the first are the same."""
    separators = [part for part in _GROUP.split(number) if part]
    first = _GROUP.match(number)
    return (
        9 <= digits <= 12
        and number[0] == "0"
        and first is not None
        and len(first[0]) >= 2
        and len(set(separators[1:])) <= 1
    )


def _is_card(number: str, digits: int) -> bool:
    """13 to 19 digits of a known range (ISO/IEC 7812) with a right check digit (Luhn), groups by one mark each."""
    if number[0] not in "23456" and (number[0] != "1" or digits != 15):
        return False
    groups = _GROUP.findall(number)
    if len(number) - digits != len(groups) - 1 or not _CARD_MARKS.issuperset(_GROUP.sub("", number)):
        return False
    values = [int(digit) for digit in "".join(groups)]
    doubled = sum(value * 2 - 9 if value > 4 else value * 2 for value in values[-2::-2])
    return (doubled + sum(values[-1::-2])) % 10 == 0


def _iban_end(text: str, start: int) -> int:
    """Where the IBAN that begins at ``start`` ends (ISO 13616: length of its country, remainder 1 by 97), or 0."""
    length = _IBAN_LENGTH.get(text[start : start + 2].upper())
    if length is None:
        return 0
    found = _IBAN.match(text, start, start + 2 * length)
    if found is None:
        return 0
    at, seen = start, 0
    for character in found[0]:
        seen += character not in " -"
        at += 1
        if seen == length:
            break
    if seen != length:
        return 0
    compact = text[start:at].replace(" ", "").replace("-", "").upper()
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return at if int(number) % 97 == 1 else 0
