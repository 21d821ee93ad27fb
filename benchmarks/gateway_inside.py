"""What the gateway's own code costs: the request path called in process, without sockets, server or HTTP client.

Prints one JSON line of microseconds: ``whole`` and ``stream`` (a request as the path sees it, 53 events for a stream),
``whole_record`` and ``stream_record`` (parsing, masking and counting after it). The best of several rounds, because
what else the machine does can only add. `benchmarks.gateway` runs it and reports it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import uvloop

from fairlead.gateway import Gateway, Identity, Route, settle
from fairlead.guard import KINDS, Masker
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply
from fairlead.records import Key
from fairlead.settings import Settings

SECRET = b"fl-benchmark"
ROUNDS, REQUESTS = 12, 400
TEXT = "You can send the parcel back within 30 days of delivery . Open the orders page and print the label .".split()
USAGE = {"prompt_tokens": 180, "completion_tokens": 50, "total_tokens": 230}
HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}
EVENTS = [
    *(
        sse.encode({**HEAD, "choices": [{"index": 0, "delta": {"content": f" {TEXT[n % 20]}"}, "finish_reason": None}]})
        for n in range(50)
    ),
    sse.encode({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    sse.encode({**HEAD, "choices": [], "usage": USAGE}),
    sse.DONE,
]
MESSAGE = {"role": "assistant", "content": " ".join(TEXT * 3)}
WHOLE = json.dumps(
    {**HEAD, "object": "chat.completion", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}
    | {"usage": USAGE}
).encode()


class Instant:
    """An upstream that has its answer ready."""

    name = "instant"

    async def open(self, call: Call) -> Reply:
        return Reply(200, chunks=self._events()) if call.stream else Reply(200, body=WHOLE)

    async def _events(self) -> AsyncIterator[bytes]:
        for event in EVENTS:
            yield event

    async def aclose(self) -> None:
        pass


class OneKey:
    """A single key, in memory."""

    def active(self) -> list[Key]:
        digest = hashlib.sha256(SECRET).hexdigest()
        return [Key(id="k", name="k", prefix="fl", digest=digest, scopes=("inference",), tenant="t", created=0)]

    def version(self) -> int:
        return 1


async def measure(body: bytes) -> tuple[float, float]:
    """Microseconds of processor time (request, record), the best of ROUNDS."""
    gateway = Gateway(
        routes={"plain": Route(name="plain", upstream=Instant(), model="plain", price=(400, 1600))},
        keys=OneKey(),
        record=lambda inference: True,
        settings=Settings(),
        mask=Masker(KINDS),
        identity=Identity("benchmark", "0" * 64),
    )
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"authorization", b"Bearer " + SECRET)]
    scope = {"type": "http", "path": "/v1/chat/completions", "method": "POST", "headers": headers}

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    asked, recorded = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(REQUESTS):
            await gateway(scope, receive, send)
        between = time.process_time()
        gateway.write_records()
        asked.append((between - began) / REQUESTS * 1e6)
        recorded.append((time.process_time() - between) / REQUESTS * 1e6)
    await gateway.aclose()
    return min(asked), min(recorded)


async def main() -> None:
    from benchmarks.gateway import BURST, ONE_SHOT, body

    settle()
    whole, stream = await measure(body(ONE_SHOT)), await measure(body(BURST))
    print(json.dumps({"whole": whole[0], "whole_record": whole[1], "stream": stream[0], "stream_record": stream[1]}))


if __name__ == "__main__":
    uvloop.run(main())
