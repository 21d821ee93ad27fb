"""The quick HMAC is HMAC."""

from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.cache.question import mac_of


@given(st.binary(max_size=200), st.binary(max_size=3_000))
def test_what_hmac_gives(secret: bytes, message: bytes) -> None:
    assert mac_of(secret)(message) == hmac.digest(secret, message, "sha256")
