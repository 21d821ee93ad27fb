"""What a listener shows, whom a browser lets call, and that our keys for upstreams never come out."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import secret
from fairlead.gateway.edge import Origins, Shown
from fairlead.gateway.http import Receive, Scope, Send
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.providers.scripted import Script
from tests.gateway.gateway_harness import CHAT, build, route, serving

PAGE = "https://app.example"
PLANTED = "planted/Secret+7f3a9c0d"


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


@pytest.mark.parametrize(
    ("path", "public", "admin"),
    [
        ("/console", False, True), ("/console/", False, True), ("/console/traces", False, True),
        ("/metrics", False, True), ("/admin/engines", False, True), ("/admin", False, True),
        ("/%61dmin/engines", False, True), ("/%63onsole", False, True), ("/consoles", True, False),
        ("/chat", True, False),
        ("/v1/models", True, False), ("/healthz", True, True), ("/readyz", True, True), ("/static/x.css", True, True),
        ("/", True, False), ("//console", True, False),
    ],
)  # fmt: skip
def test_administration_is_shown_at_its_own_address_alone(path: str, public: bool, admin: bool) -> None:
    for wanted, is_admin in ((public, False), (admin, True)):
        with serving(Shown(_page, admin=is_admin), lifespan="off") as url:
            answer = httpx.get(f"{url}{path}")
            assert (answer.text == "page") is wanted
            assert wanted or answer.status_code == 404


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"])))
def test_every_path_of_administration_is_hidden_from_the_public(rest: str) -> None:
    assert not Shown(_page, admin=False).shows(f"/console/{rest}")
    assert not Shown(_page, admin=False).shows(f"/metrics/{rest}")
    assert not Shown(_page, admin=False).shows(f"/admin/{rest}")


def ask(url: str, origin: str = PAGE, stream: bool = False) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": stream}, headers={"origin": origin})


def preflight(url: str, origin: str = PAGE) -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization, content-type"}  # fmt: skip
    return httpx.request("OPTIONS", f"{url}/v1/chat/completions", headers=asked)


def test_no_page_may_call_unless_it_is_listed() -> None:
    with serving(build(Script(text="ok")).gateway) as url:
        for answer in (
            ask(url),
            ask(url, stream=True),
            preflight(url),
            httpx.get(f"{url}/v1/models", headers={"origin": PAGE}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")]
        assert preflight(url).status_code == 405


def test_a_listed_page_may_call_and_read_also_what_is_refused() -> None:
    with serving(build(Script(text="ok"), cors_origins=f"https://other.example, {PAGE}/").gateway) as url:
        asked = preflight(url)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in asked.headers["access-control-allow-headers"]
        wrong = httpx.post(f"{url}/v1/chat/completions", json={}, headers={"origin": PAGE})
        models = httpx.get(f"{url}/v1/models", headers={"origin": PAGE})
        slow_way = httpx.post(f"{url}/v1/chat/completions?x=1", json=dict(CHAT), headers={"origin": PAGE})
        assert wrong.status_code == 400
        for answer in (ask(url), ask(url, stream=True), wrong, models, slow_way):
            assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
            assert "origin" in answer.headers["vary"]
        for other in ("https://app.example.evil", "http://app.example", "null", "https://APP.example.evil"):
            assert "access-control-allow-origin" not in ask(url, other).headers
            assert preflight(url, other).status_code == 405


def test_all_pages_by_a_star_and_none_by_default() -> None:
    assert Origins("*").headers(b"https://x.example")[0] == (b"access-control-allow-origin", b"*")
    assert not Origins("")
    assert Origins("").headers(b"https://x.example") == ()


# --- our keys ---------------------------------------------------------------------------------------------------------


class Telling:
    """A model server that tells every key it is shown, in the way it is asked to."""

    def __init__(self) -> None:
        self.way = b""
        self.loop = asyncio.new_event_loop()
        self.url = ""
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait(30)

    def _run(self, ready: threading.Event) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                key = head.split(b"authorization: Bearer ")[1].split(b"\r\n")[0]
                writer.write(self.way.replace(b"KEY", key))
                await writer.drain()
            finally:
                writer.close()

        async def listen() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            self.server = server
            ready.set()

        self.loop.run_until_complete(listen())
        self.loop.run_forever()
        self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.call_later, 0.1, self.loop.stop)
        self.thread.join(30)


@pytest.fixture(name="telling")
def telling_fixture() -> Iterator[Telling]:
    telling = Telling()
    yield telling
    telling.stop()


def said(status: bytes, body: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"connection: close", b"", body])


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
WAYS = [
    said(b"401 No", b'{"error":{"message":"the key KEY is wrong"}}'),
    said(b"400 No", b'{"error":{"message":"KEY","param":"KEY","code":"KEY","type":"KEY"}}'),
    said(b"400 No", b'{"detail":"Bearer KEY and again KEY"}'),
    said(b"429 No", b"<html>KEY</html>", b"retry-after: KEY"),
    said(b"429 No", b"plain KEY"),
    said(b"500 KEY", b'{"message":"KEY"}', b"x-key: KEY"),
    said(b"200 OK", b'{"error":{"message":"KEY"}}', b"content-type: application/json"),
    said(b"200 OK", b"KEY", b"content-type: text/KEY"),
    said(b"200 OK", b"", b"content-encoding: KEY"),
    said(b"200 OK", b'data: {"error":{"message":"KEY"}}\n\n', b"content-type: text/event-stream"),
    said(b"200 OK", EVENT + b'data: {"error":"KEY"}\n\n', b"content-type: text/event-stream"),
    said(b"200 OK", EVENT, b"content-type: text/event-stream"),
    b"KEY KEY KEY\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nKEY\r\n\r\n",
]


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_a_planted_key_comes_out_nowhere(
    telling: Telling, way: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an upstream does with our key: not in an answer, a stream, a header, a record or a log."""
    monkeypatch.setenv("PLANTED_KEY", PLANTED)
    key = secret.read("env:PLANTED_KEY", Path())
    telling.way = WAYS[way]
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(secret.HidingFormatter("%(message)s"))
    house = build(routes={"support": route(OpenAICompatible("telling", telling.url, "m", key))})
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for stream in (False, True):
            answer = client.post("/v1/chat/completions", json={**CHAT, "stream": stream})
            seen = f"{answer.text}\n{answer.headers}\n{client.get('/metrics').text}"
            assert PLANTED not in seen
        for record in house.written(2):
            assert PLANTED not in json.dumps({name: getattr(record, name) for name in record.__struct_fields__})
    assert PLANTED not in caplog.text
