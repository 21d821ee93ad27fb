"""Who the customer of a conversation is: established by code, from facts a tool checked or a signed token.

Nothing anyone writes into a conversation is an identity. Knows no tools.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from fairlead.errors import IdentityRefused
from fairlead.tools import Customer

MIN_SECRET: Final = 32
"""Bytes of a signing secret (RFC 7518, section 3.2)."""
LONGEST_TOKEN: Final = 4_096
CLOCK_SKEW_S: Final = 60
FACTS_KEPT: Final = 4
"""Turns without a tool after which results of the last one are forgotten."""


_DIGITS = re.compile(r"\d+")


class Session:
    """What a conversation has established, kept in memory by code and shown to no model.

    ``misses``: lookups that found nothing; ``customer``: who is being helped, None while unknown; ``signed``: whether
    the embedding site vouches for it, which nothing said in the conversation can change; ``said``: the customer's own
    words; ``last``: which order or the like was spoken of last; ``facts``: the calls and
    results of the last turn that had any, for the turns after it.
    """

    def __init__(self) -> None:
        self.misses = 0
        self.customer: Customer | None = None
        self.signed = False
        self.said = ""
        self.facts: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}
        self._age = 0

    def remember(self, exchange: list[dict[str, Any]]) -> None:
        """Keep the calls and results of a turn; forget them after some turns without any."""
        self._age = 0 if exchange else self._age + 1
        if exchange or self._age >= FACTS_KEPT:
            self.facts = exchange

    @property
    def fresh(self) -> bool:
        """Whether the facts are of the turn before."""
        return bool(self.facts) and self._age == 0

    def hear(self, texts: Iterable[str]) -> None:
        """Take up what the customer has written, all of it so far."""
        self.said = "\n".join(texts)

    def has_said(self, fact: object) -> bool:
        """Whether a fact stands in the customer's own words: only then is knowing it a proof.

        A number may be written with other letters around it ("482913" for "TT-482913"), but it must be the whole
        number; an address must be the whole address.
        """
        text = str(fact).strip()
        numbers = [run for run in _DIGITS.findall(text) if len(run) >= 4]
        if numbers and "@" not in text:
            said = set(_DIGITS.findall(self.said))
            return all(run in said for run in numbers)
        pattern = rf"(?<![\w.+@-]){re.escape(text)}(?![\w@-]|\.\w)"
        return bool(text) and re.search(pattern, self.said, re.IGNORECASE) is not None

    def identify(self, customer: Customer) -> bool:
        """Take up a customer whom a tool has recognised; False for another one than the site vouches for."""
        if self.signed:
            return self.customer is not None and self.customer.id == customer.id
        if self.customer is not None and self.customer.id != customer.id:
            self.facts, self.last = [], {}
        self.customer = customer
        return True

    def sign_in(self, customer: Customer) -> None:
        """Take up a customer for whom the embedding site vouches."""
        if self.customer is not None and self.customer.id != customer.id:
            self.facts, self.last = [], {}
        self.customer, self.signed = customer, True


def read_token(token: str, secret: bytes, *, audience: str, now: float | None = None) -> Customer:
    """The customer a signed-in identity names: a JWT (RFC 7519) signed with HS256.

    Claims: ``sub`` (the shop's own id of the customer), ``aud`` (the use case), ``exp`` (seconds), and if you like
    ``email``, ``name``, ``nbf``. Raises IdentityRefused.
    """
    if len(secret) < MIN_SECRET:
        raise IdentityRefused(detail=f"the signing secret must have at least {MIN_SECRET} bytes")
    parts = token.split(".")
    if len(token) > LONGEST_TOKEN or len(parts) != 3:
        raise IdentityRefused(detail="it is not a signed JWT")
    try:
        header = msgspec.json.decode(_decode(parts[0]), type=dict[str, Any])
        claims = msgspec.json.decode(_decode(parts[1]), type=dict[str, Any])
        signature = _decode(parts[2])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise IdentityRefused(detail="it is not a signed JWT") from error
    expected = hmac.new(secret, f"{parts[0]}.{parts[1]}".encode("ascii", "replace"), hashlib.sha256).digest()
    # The algorithm is ours, never the token's choice; a header that names another is refused all the same.
    if not hmac.compare_digest(signature, expected) or header.get("alg") != "HS256":
        raise IdentityRefused(detail="the signature does not fit")
    return _customer(claims, audience, time.time() if now is None else now)


def _customer(claims: dict[str, Any], audience: str, now: float) -> Customer:
    until, since = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(until, int | float) or now > until + CLOCK_SKEW_S:
        raise IdentityRefused(detail="it has expired, or has no `exp`")
    if not isinstance(since, int | float) or now < since - CLOCK_SKEW_S:
        raise IdentityRefused(detail="it is not valid yet")
    named = claims.get("aud")
    if audience not in (named if isinstance(named, list) else [named]):
        raise IdentityRefused(detail=f"its `aud` does not name {audience}")
    subject, email, name = claims.get("sub"), claims.get("email", ""), claims.get("name", "")
    if not isinstance(subject, str) or not 0 < len(subject) <= 200:
        raise IdentityRefused(detail="its `sub` must be the id of a customer, as text")
    if not isinstance(email, str) or not isinstance(name, str):
        raise IdentityRefused(detail="`email` and `name` must be texts")
    return Customer(id=subject, email=email[:254], name=name[:200])


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
