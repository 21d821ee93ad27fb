"""AWS Signature Version 4: the headers with which AWS recognises who sends a request. Pure; knows no HTTP client.

Source: AWS's public description of the signing process, checked against its published test suite. An SDK of 20 MB
would do nothing else here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

import msgspec

_PAIR = re.compile(r"(?P<id>A[KS]I[AD][A-Z0-9]{4,124}):(?P<secret>[^\s:]+)(?::(?P<token>\S+))?")
_REGION = re.compile(r"\.([a-z]{2,3}(?:-[a-z]+)+-\d)\.")
_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(msgspec.Struct, frozen=True):
    """Long-lived (no ``token``) or temporary credentials."""

    id: str
    secret: str
    token: str = ""

    @classmethod
    def read(cls, text: str | None) -> Credentials | None:
        """``ID:SECRET`` or ``ID:SECRET:TOKEN``; None for anything else, as a bearer key."""
        found = _PAIR.fullmatch(text or "")
        return cls(found["id"], found["secret"], found["token"] or "") if found else None


class Signer(msgspec.Struct, frozen=True):
    """Signs requests to one service in one region."""

    credentials: Credentials
    region: str
    service: str

    def headers(
        self, method: str, url: str, body: bytes, *, sent: Mapping[str, str] | None = None, now: float | None = None
    ) -> dict[str, str]:
        """The headers to add. ``sent`` are others to be covered; ``host`` is always, from ``url``."""
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        parts = urlsplit(url)
        made = {"x-amz-date": at}
        if self.credentials.token:
            made["x-amz-security-token"] = self.credentials.token
        covered = {"host": parts.netloc, **made, **{name.lower(): value for name, value in (sent or {}).items()}}
        names = sorted(covered)
        scope = f"{at[:8]}/{self.region}/{self.service}/aws4_request"
        lines = [
            method,
            _path(parts.path),
            _query(parts.query),
            *(f"{name}:{' '.join(covered[name].split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
        canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        to_sign = "\n".join((_ALGORITHM, at, scope, canonical))
        signature = hmac.digest(self._key(at[:8]), to_sign.encode(), "sha256").hex()
        made["authorization"] = (
            f"{_ALGORITHM} Credential={self.credentials.id}/{scope}, SignedHeaders={';'.join(names)}, "
            f"Signature={signature}"
        )
        return made

    def _key(self, day: str) -> bytes:
        key = f"AWS4{self.credentials.secret}".encode()
        for part in (day, self.region, self.service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def region_of(host: str) -> str:
    """The region in the name of an AWS host; ``us-east-1`` when it names none."""
    found = _REGION.search(f".{host}.")
    return found[1] if found else "us-east-1"


def _path(path: str) -> str:
    """Each part encoded once more, as every service but S3 wants it."""
    return quote(path or "/", safe="/-_.~")


def _query(query: str) -> str:
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(
        f"{name}={value}"
        for name, value in sorted(
            (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, _, value in pairs
        )
    )
