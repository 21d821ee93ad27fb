"""Requests answered at once, and the same taken the whole way: same answers, headers, records, limits, money."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairlead.admission import Admission, Bank, LimitRules
from fairlead.gateway import Gateway, Identity
from fairlead.gateway.cache import Cache, Rules
from fairlead.gateway.http import Head, Headers
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply
from fairlead.records import Inference, Key, Limits
from fairlead.settings import Settings
from fairlead.spec import parse
from fairlead.store import Store
from tests.gateway.gateway_harness import Keys, post, raw, route, serving, whole

SPEC = """
fairlead: 1
name: shop-support
purpose: Answer.
users: {who: customers}
risk: limited
variants: [{id: support, model: extractive}, {id: other, model: extractive}]
live: support
budget: {per_day_usd: 0.002, per_month_usd: 1}
limits:
  - {per: key, requests_per_minute: 12, tokens_per_minute: 3000, concurrent: 8}
  - {per: tenant, requests_per_minute: 20}
  - {per: user, requests_per_minute: 9}
  - {per: model, only: [other], requests_per_minute: 7}
"""
ANSWER = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Soon."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35},
}  # fmt: skip
SECRETS = ("fl-one", "fl-two", "fl-unknown")


class Same:
    """Gives the same answer always."""

    name = "same"

    async def open(self, call: Call) -> Reply:
        if not call.stream:
            return Reply(200, body=json.dumps(ANSWER).encode())
        return Reply(200, chunks=self._events())

    async def _events(self) -> AsyncIterator[bytes]:
        head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        yield sse.encode({**head, "choices": [{"index": 0, "delta": {"content": "Soon."}, "finish_reason": None}]})
        yield sse.encode({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield sse.encode({**head, "choices": [], "usage": ANSWER["usage"]})
        yield sse.DONE

    async def aclose(self) -> None:
        pass


class Caller:
    """The other end of a connection."""

    def __init__(self, body: bytes) -> None:
        self.push: Callable[[bytes], bool] | None = None
        self.drained: Callable[[], None] | None = None
        self.body = body
        self.status = 0
        self.headers: Headers = ()
        self.heard = b""

    def write(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.headers, self.heard = status, headers, body

    async def read(self, head: Head, limit: int) -> bytes:
        return self.body

    def watch(self, left: Any) -> None:
        pass

    def unwatch(self) -> None:
        pass

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        self.write(status, headers, body)

    async def start(self, headers: Headers) -> None:
        self.write(200, headers, b"")

    async def send(self, data: bytes, *, last: bool = False) -> None:
        self.heard += data


class World:
    """A gateway with limits, budgets and a cache, whose clock stands still unless it is told to go on."""

    def __init__(self, store: Store, *, at_once: bool) -> None:
        self.ns = 10**15
        self.records: list[Inference] = []
        self.refused: list[str] = []
        self.at_once = at_once
        self.answered_at_once = 0
        upstream = Same()
        routes = {
            name: route(upstream, name, price=(400.0, 1600.0), defaults={"max_tokens": 50})
            for name in ("support", "other")
        }
        self.keys = Keys()
        for number, secret in enumerate(SECRETS[:2]):
            digest = hashlib.sha256(secret.encode()).hexdigest()
            self.keys.keys.append(
                Key(
                    id=f"k{number}", name="k", prefix="fl", digest=digest, scopes=("inference",), tenant=f"t{number}",
                    created=0, models=("support",) if number else (),
                    limits=Limits(requests_per_minute=10) if number else Limits(),
                )
            )  # fmt: skip
        self.admission = Admission(
            rules=LimitRules(parse(SPEC)), bank=Bank(store.ledger), routes=routes, count=self.refused.append,
            unsent=set(), clock=lambda: self.ns,
        )  # fmt: skip
        self.cache = Cache(Rules(ttl_s=100), secret=b"k" * 32, clock=lambda: self.ns // 1000)
        self.gateway = Gateway(
            routes=routes, keys=self.keys, record=self._keep, settings=Settings(), mask=lambda text: text,
            identity=Identity("shop-support", "a" * 64), steps={"admit": (self.admission.admit,)},
            pseudonym_secret=b"s" * 32, cache=self.cache, admit_now=self.admission.admit_now,
        )  # fmt: skip

    def _keep(self, record: Inference) -> bool:
        self.records.append(record)
        return True

    async def ask(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[Any, ...]:
        """One request; what came back, without the ids of the moment."""
        caller = Caller(body)
        head = Head({"headers": headers})
        done = self.at_once and self.gateway.answer_now("chat", head, body, caller.write)
        self.answered_at_once += done
        if not done:
            await self.gateway.infer("chat", head, caller)
        ids = (b"x-request-id", b"x-inference-id")
        heard = caller.heard
        if caller.status != 200:
            error = json.loads(heard)["error"]
            heard = json.dumps({name: error[name] for name in ("message", "type", "param", "code")}).encode()
        shown = [header for header in caller.headers if header[0] not in ids]
        return caller.status, [header for header in shown if header[0] != b"content-length"], heard

    def state(self) -> Any:
        """All that a request may have changed."""
        self.gateway.write_records()
        ignored = ("id", "time", "request", "total_us", "first_token_us", "steps")
        rows = [
            {name: getattr(record, name) for name in record.__struct_fields__ if name not in ignored}
            | {"steps": record.steps.keys() - {"check"}}  # nothing is left to check
            for record in self.records
        ]
        books = {
            place: (book.open, *(meter.standing(self.ns) if meter else () for meter in (book.requests, book.tokens)))
            for place, book in self.admission._books.items()
        }
        budget = [line for line in self.admission.budget() if line[0][1] != "reserved"]
        tally = sorted((line.tenant, line.route, line.outcome, line.requests, line.nanos) for line in self.cache.tally)
        return rows, books, budget, tally, self.refused, self.gateway.in_flight


def body_of(number: int, model: str, stream: bool, temperature: float, user: str) -> bytes:
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": f"Where is parcel {number}?"}]}
    asked |= {"temperature": temperature, "stream": stream}
    if user:
        asked["user"] = user
    return json.dumps(asked).encode()


def drawn(seed: int) -> list[Any]:
    """What happens in one play: requests, many of them the same; seconds that pass; a purge, a change of a key."""
    draw = random.Random(seed)
    steps: list[Any] = []
    for _ in range(300):
        chance = draw.random()
        if chance < 0.12:
            steps.append(draw.choice((1.0, 5.0, 5.0, 60.0, 120.0)))
        elif chance < 0.15:
            steps.append(draw.choice(("forget", "rotate")))
        elif chance < 0.18:
            steps.append((b"{", 0, b"", b"application/json"))
        else:
            model = draw.choice(("support",) * 6 + ("other", "other", "none"))
            body = body_of(draw.choice((0, 0, 1)), model, draw.random() < 0.15, draw.choice((0,) * 8 + (1,)),
                           draw.choice(("",) * 6 + ("ann",)))  # fmt: skip
            control = draw.choice((b"",) * 9 + (b"no-cache", b"no-store", b"max-age=10"))
            kind = draw.choice((b"application/json",) * 9 + (b"application/json; charset=utf-8", b"text/plain"))
            steps.append((body, draw.choice((0, 0, 0, 1, 1, 2)), control, kind))
    return steps


@pytest.mark.parametrize("seed", range(8))
def test_the_same_comes_of_it_as_of_the_whole_way(seed: int) -> None:
    steps = drawn(seed)

    async def play(world: World) -> list[Any]:
        seen: list[Any] = []
        for step in steps:
            if isinstance(step, float):
                world.ns += round(step * 1e9)
            elif step == "forget":
                world.cache.clear()
            elif step == "rotate":  # somebody changes a key: principals are made anew
                world.keys.keys.append(world.keys.keys[0])
                world.gateway._keyring.refresh()
            else:
                body, key, control, kind = step
                headers = [(b"content-type", kind), (b"authorization", b"Bearer " + SECRETS[key].encode())]
                if control:
                    headers.append((b"cache-control", control))
                seen.append(await world.ask(body, headers))
        seen.append(world.state())
        await world.admission.aclose()
        await world.gateway.aclose()
        return seen

    with tempfile.TemporaryDirectory() as folder:
        found = []
        for at_once in (False, True):
            with Store.open(Path(folder) / str(at_once)) as store:
                world = World(store, at_once=at_once)
                found.append(asyncio.run(play(world)))
                assert store.ledger.reconcile("shop-support") == []
    assert found[0] == found[1]
    assert world.answered_at_once >= 5
    assert world.refused


async def test_what_is_known_is_answered_at_once_and_nothing_else(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        world = World(store, at_once=True)
        headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer fl-one")]
        body = body_of(0, "support", False, 0, "")
        counts = []
        for _ in range(4):
            await world.ask(body, headers)
            counts.append(world.answered_at_once)
        assert counts == [0, 0, 1, 2]  # called, found by its key, known by its bytes
        assert (await world.ask(body, [headers[0], (b"authorization", b"Bearer fl-two")]))[0] == 200
        assert world.answered_at_once == 2
        world.gateway.drain()
        assert (await world.ask(body, headers))[0] == 503
        await world.admission.aclose()
        await world.gateway.aclose()


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_over_a_connection_whatever_pieces_the_request_comes_in(tmp_path: Path, pieces: int) -> None:
    with Store.open(tmp_path) as store:
        world = World(store, at_once=True)
        asked = post("/v1/chat/completions", body_of(0, "support", False, 0, ""), "authorization: Bearer fl-one")
        with serving(world.gateway) as url:
            with httpx.Client(base_url=url, headers={"authorization": "Bearer fl-one"}, timeout=20) as client:
                for _ in range(3):
                    given = client.post("/v1/chat/completions", content=body_of(0, "support", False, 0, ""),
                                        headers={"content-type": "application/json"})  # fmt: skip
                    assert given.status_code == 200
                assert given.headers["x-fairlead-cache"] == "hit"
            cut = len(asked) // pieces
            last = asked.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
            if pieces > 1:
                received = raw(url, asked[:cut], more=asked[cut:], pause_s=0.05)
            else:
                received = whole(url, asked * 2 + last)
        assert received.count(b"HTTP/1.1 200") == (1 if pieces > 1 else 3)
        assert received.count(b"x-fairlead-cache: hit") == (1 if pieces > 1 else 3)
        assert received.count(b"Soon.") == (1 if pieces > 1 else 3)
