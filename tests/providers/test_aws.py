"""Signature Version 4, against the cases of AWS's published test suite."""

from __future__ import annotations

import calendar
import time

import pytest

from fairlead.providers.aws import Credentials, Signer, region_of

AT = calendar.timegm(time.strptime("20150830T123600Z", "%Y%m%dT%H%M%SZ"))
EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SIGNER = Signer(EXAMPLE, "us-east-1", "service")
HOST = "https://example.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "path", "body", "sent", "signature"),
    [
        ("GET", "/", b"", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", b"", {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET", "/?Param2=value2&Param1=value1", b"", {},
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "POST", "/", b"Param1=value1", {"Content-Type": "application/x-www-form-urlencoded"},
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "GET", "/%E1%88%B4", b"", {}, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
    ],
)  # fmt: skip
def test_the_published_cases(method: str, path: str, body: bytes, sent: dict[str, str], signature: str) -> None:
    path = "/ሴ" if "%" in path else path
    made = SIGNER.headers(method, HOST + path, body, sent=sent, now=AT)
    assert made["authorization"].endswith(f"Signature={signature}")
    assert made["x-amz-date"] == "20150830T123600Z"
    assert "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request" in made["authorization"]


def test_a_session_is_signed_with_its_token() -> None:
    signer = Signer(Credentials("AKIDEXAMPLE", EXAMPLE.secret, "token"), "us-east-1", "service")
    made = signer.headers("GET", HOST, b"", now=AT)
    assert made["x-amz-security-token"] == "token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token" in made["authorization"]
    assert made["authorization"] != SIGNER.headers("GET", HOST, b"", now=AT)["authorization"]


@pytest.mark.parametrize("url", [HOST + "/a?x=1", HOST + "/b", HOST.replace("example", "other") + "/a"])
def test_every_part_counts(url: str) -> None:
    assert SIGNER.headers("POST", url, b"a", now=AT) != SIGNER.headers("POST", HOST + "/a", b"a", now=AT)
    assert SIGNER.headers("POST", url, b"a", now=AT) != SIGNER.headers("POST", url, b"b", now=AT)


def test_what_is_read_as_credentials() -> None:
    assert Credentials.read("AKIDEXAMPLE:abc/+=") == Credentials("AKIDEXAMPLE", "abc/+=")
    assert Credentials.read("ASIAEXAMPLE0:abc:tok/en==") == Credentials("ASIAEXAMPLE0", "abc", "tok/en==")
    for other in (None, "", "sk-abc", "AKIDEXAMPLE", "AKIDEXAMPLE:", "bedrock-api-key-xyz", "A:b"):
        assert Credentials.read(other) is None


def test_regions() -> None:
    assert region_of("bedrock-runtime.eu-west-1.amazonaws.com") == "eu-west-1"
    assert region_of("bedrock-runtime.us-gov-east-1.amazonaws.com") == "us-gov-east-1"
    assert region_of("127.0.0.1") == "us-east-1"
