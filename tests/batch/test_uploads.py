"""Uploads as they come: odd, broken and hostile ones are refused in words, or run as what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from fairlead.batch import Limits
from fairlead.store import Store
from tests.batch.batch_harness import Lines, Place, chat, content, jsonl, opened, served, submit, wait
from tests.gateway.gateway_harness import raw, serving

ENDPOINT = "/v1/chat/completions"
ONE = jsonl([chat("a")])


@pytest.fixture(name="store", scope="module")
def store_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened(tmp_path_factory.mktemp("uploads") / "data") as store:
        yield store


@pytest.fixture(name="place", scope="module")
def place_fixture(store: Store) -> Place:
    return Place(store, most_file=8 << 20, most_held=1 << 40, limits=Limits(line_bytes=100_000, depth=64))


@pytest.fixture(name="client", scope="module")
def client_fixture(place: Place) -> Iterator[OpenAI]:
    with served(place) as client:
        yield client


def held(store: Store) -> list[Path]:
    return list((store.directory / "files").iterdir())


def nested(levels: int) -> bytes:
    """A line whose metadata nests so deep."""
    line = json.dumps(chat("deep", body={"model": "support", "messages": [{"role": "user", "content": "x"}], "x": 0}))
    return line.encode().replace(b'"x": 0', b'"x": ' + b"[" * levels + b"]" * levels) + b"\n"


@pytest.mark.parametrize(
    "sent",
    [
        ONE.rstrip(b"\n"),
        b"\xef\xbb\xbf" + ONE,
        ONE.replace(b"\n", b"\r\n"),
        b"\n\n" + ONE + b"   \n\t\n",
        b"\xef\xbb\xbf\r\n" + ONE.rstrip(b"\n"),
        nested(40),
    ],
    ids=["no newline at the end", "BOM", "CRLF", "blank lines", "BOM and blank", "deep, not too deep"],
)
def test_odd_files_run_as_what_they_are(client: OpenAI, sent: bytes) -> None:
    ended = wait(client, submit(client, sent))
    assert ended.status == "completed", ended.errors
    assert len(content(client, ended.output_file_id)) == 1


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b'"text"\n3\ntrue\nnull\n[]\n', [("invalid_json_line", line) for line in range(1, 6)]),
        (ONE + ONE + ONE, [("duplicate_custom_id", 2), ("duplicate_custom_id", 3)]),
        (ONE + b"\x00\n", [("invalid_json_line", 2)]),
        (ONE.replace(b"Hello", b"He\x00llo"), [("invalid_json_line", 1)]),
        (ONE.replace(b"Hello", b"He\xc3llo"), [("invalid_json_line", 1)]),
        (ONE.replace(b"Hello", b"\xed\xa0\x80"), [("invalid_json_line", 1)]),
        (ONE.replace(b"Hello", b"\\ud800"), [("invalid_json_line", 1)]),
        (ONE.decode().encode("utf-16-le"), [("invalid_json_line", 1), ("invalid_json_line", 2)]),
        (b"\xff\xfe" + ONE.decode().encode("utf-16-le"), [("invalid_encoding", 1)]),
        (b"x" * 3_000_000, [("line_too_long", 1)]),
        (ONE + b"[" * 200_000 + b"\n" + jsonl([chat("b", "Hi")]), [("line_too_long", 2)]),
        (b"[" * 90_000, [("invalid_json_line", 1)]),
        (b'{"a":' * 15_000 + b"1" + b"}" * 15_000, [("invalid_json_line", 1)]),
        (nested(65), [("invalid_json_line", 1)]),
        (jsonl([chat("a", method="DELETE", url="/v1/models")]), [("invalid_method", 1), ("invalid_url", 1)]),
        (jsonl([chat("a", method=["POST"], url={"x": 1})]), [("invalid_method", 1), ("invalid_url", 1)]),
        (jsonl([chat("a", url=ENDPOINT + "/")]), [("invalid_url", 1)]),
        (jsonl([chat("a", body={"messages": [{"role": "user", "content": "x"}]})]), [("invalid_value", 1)]),
        (jsonl([chat("a", body={"model": 3, "messages": []})]), [("invalid_value", 1)]),
        (jsonl([chat("a", body={**chat("a")["body"], "model": "nobody"})]), [("model_not_found", 1)]),
        (jsonl([chat("a", body=[])]), [("invalid_body", 1)]),
        (b'{"custom_id": "a", "custom_id": 3, "method": "POST", "url": "' + ENDPOINT.encode() + b'", "body": {}}\n',
         [("invalid_custom_id", 1)]),
        (jsonl([{**chat("a"), "custom_id": "x" * 513}]), [("invalid_custom_id", 1)]),
        (b"not a line\n" * 500, [("invalid_json_line", line) for line in range(1, 101)]),
    ],
)  # fmt: skip
def test_what_no_line_can_be_fails_the_batch_and_says_where(
    client: OpenAI, place: Place, sent: bytes, told: list[tuple[str, int]]
) -> None:
    asked = len(place.upstream.calls)
    ended = wait(client, submit(client, sent))
    assert ended.status == "failed"
    assert ended.errors is not None
    assert [(error.code, error.line) for error in ended.errors.data or []] == told
    for error in ended.errors.data or []:
        assert error.message
        assert len(error.message) < 500, "no error repeats what was sent at length"
    assert len(place.upstream.calls) == asked, "nothing was asked"


def test_a_custom_id_is_given_back_as_it_came(client: OpenAI) -> None:
    names = ['"; DROP TABLE batches; --', "../../etc/passwd", "é\u0000\n\u202e😀", "<script>", "0", " a "]
    lines: Lines = [chat(name, f"word {number}") for number, name in enumerate(names)]
    ended = wait(client, submit(client, lines))
    assert ended.status == "completed", ended.errors
    assert [line["custom_id"] for line in content(client, ended.output_file_id)] == names


@pytest.mark.parametrize("purpose", ["batch", "fine-tune"])
def test_an_empty_file_is_refused_at_once(client: OpenAI, store: Store, purpose: str) -> None:
    before = held(store)
    with pytest.raises(openai.BadRequestError, match="empty" if purpose == "batch" else "purpose"):
        client.files.create(file=("in.jsonl", b""), purpose=purpose)  # type: ignore[arg-type]
    assert held(store) == before


def multipart(name: str, body: bytes, **more: str) -> tuple[bytes, str]:
    parts = [f'--b\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in more.items()]
    head = f'--b\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return ("".join(parts) + head).encode() + body + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    "name", ["../../../etc/cron.d/x", "/etc/passwd", "a\u0000b", "x" * 3000, "", "..", "con.jsonl"]
)
def test_a_file_s_name_is_only_a_name(client: OpenAI, store: Store, name: str) -> None:
    body, kind = multipart(name, ONE, purpose="batch")
    answer = httpx.post(f"{client.base_url}files", content=body, headers={"content-type": kind}, timeout=30)
    assert answer.status_code == 200, answer.text
    kept = answer.json()
    assert "/" not in kept["filename"]
    assert 0 < len(kept["filename"]) <= 255
    assert (store.directory / "files" / kept["id"]).read_bytes() == ONE


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("content-length: 209715200000\r\ncontent-type: multipart/form-data; boundary=b", 413),
        ("content-length: 40\r\ncontent-type: application/jsonl", 400),
        ("content-length: 40\r\ncontent-type: multipart/form-data", 400),
        (f"content-length: 40\r\ncontent-type: multipart/form-data; boundary={'b' * 300}", 400),
    ],
)
def test_what_is_declared_is_refused_before_it_is_sent(place: Place, store: Store, head: str, status: int) -> None:
    before = held(store)
    with serving(place.gateway) as url:
        received = raw(url, f"POST /v1/files HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode() + b"x" * 40)
    assert received.startswith(f"HTTP/1.1 {status} ".encode()), received
    assert b'"error"' in received
    assert held(store) == before


def test_200_mb_declared_and_never_sent_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as store:
        place = Place(store, most_file=200 << 20)
        body, kind = multipart("in.jsonl", ONE, purpose="batch")
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {200 << 20}\r\n\r\n"
        with serving(place.gateway) as url:
            raw(url, head.encode() + body[:50])
            assert httpx.get(f"{url}/v1/files", timeout=30).json()["data"] == []
        assert held(store) == []


def test_a_file_too_large_is_refused_while_it_comes(client: OpenAI, store: Store) -> None:
    before = held(store)

    def endless() -> Iterator[bytes]:
        yield multipart("in.jsonl", b"", purpose="batch")[0].removesuffix(b"\r\n--b--\r\n")
        for _ in range(200):
            yield b"x" * 65_536

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{client.base_url}files", content=endless(), headers=headers, timeout=60)
    assert answer.status_code == 413, answer.text
    assert held(store) == before


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "files", 405, "GET, HEAD, POST"),
        ("PATCH", "batches/x", 405, "GET, HEAD"),
        ("GET", "batches/x/cancel", 405, "POST"),
        ("POST", "files/x/content", 405, "GET, HEAD"),
        ("GET", "files/x/y", 404, ""),
        ("POST", "batches/", 404, ""),
    ],
)
def test_paths_that_are_none_are_refused_in_the_api_s_words(
    client: OpenAI, method: str, path: str, status: int, allowed: str
) -> None:
    answer = httpx.request(method, f"{client.base_url}{path}", timeout=30)
    assert answer.status_code == status
    assert answer.headers.get("allow", "") == allowed
    error = answer.json()["error"]
    assert error["code"] == ("method_not_allowed" if status == 405 else "unknown_url")
    assert answer.headers["x-request-id"] == error["request_id"]


@pytest.mark.parametrize("sent", [b"null", b"[]", b"3", b"", b"{", b'{"a": NaN}', b"\xff"])
def test_a_wish_that_is_no_object(client: OpenAI, sent: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{client.base_url}batches", content=sent, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert "None" not in answer.text
    assert "object" in answer.text or "JSON" in answer.text, answer.text
