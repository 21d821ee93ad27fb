"""Anthropic's Messages API behind the same interface as every other upstream.

Translating is in ``messages_dialect``, calling in ``http``; here they are put together. Chat only: the API has neither
embeddings nor bare completions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import orjson

from fairlead.errors import UpstreamBroken
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply
from fairlead.providers.dialect import Untranslatable
from fairlead.providers.http import HttpClient, Response
from fairlead.providers.messages_dialect import Stream, StreamFailed, answer_body, request_body
from fairlead.providers.network import NETWORK, Network
from fairlead.providers.openai_compatible import error_body, refusal_body

API_VERSION = "2023-06-01"


class Anthropic:
    """An Upstream over HTTP. ``base_url`` ends before ``/messages``; ``api_key`` is sent as ``x-api-key``."""

    def __init__(
        self, name: str, base_url: str, model: str, api_key: str | None = None, network: Network = NETWORK
    ) -> None:
        self.name = name
        self.model = model
        self._secret = api_key
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "fairlead",
            "anthropic-version": API_VERSION,
        }
        if api_key:
            headers["x-api-key"] = api_key
        self._http = HttpClient(name, base_url, headers=headers, network=network)

    async def open(self, call: Call) -> Reply:
        """Send ``call``; see Upstream.open. What cannot be translated is a Reply with status 400."""
        try:
            data = request_body(self.model, call)
        except Untranslatable as error:
            return Reply(400, body=refusal_body(str(error), error.param))
        except (AttributeError, KeyError, TypeError) as error:
            return Reply(
                400, body=refusal_body(f"The messages or tools are not in the protocol's shape ({error}).", None)
            )
        response = await self._http.post("/messages", data, deadline=call.deadline, stream=call.stream)
        if response.status != 200:
            retry = response.headers.get("retry-after")
            body = error_body(await response.read(), self._secret)
            return Reply(response.status, body=body, headers={"retry-after": retry} if retry else {})
        if not call.stream:
            return Reply(200, body=self._whole(await response.read()))
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            await response.read()
            raise UpstreamBroken(name=self.name, detail=f"asked for a stream, it sent {kind or 'an untyped body'}")
        wants_usage = bool((call.body.get("stream_options") or {}).get("include_usage"))
        return Reply(200, chunks=Translated(self.name, response, wants_usage))

    def _whole(self, body: bytes) -> bytes:
        try:
            return answer_body(orjson.loads(body))
        except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
            raise UpstreamBroken(name=self.name, detail=f"an answer that cannot be read ({error})") from error

    async def aclose(self) -> None:
        """Close pooled connections. Idempotent."""
        await self._http.aclose()


class Translated:
    """A stream of the Messages API as OpenAI events. Raises UpstreamBroken for one that errs or ends too early."""

    def __init__(self, name: str, chunks: Response, wants_usage: bool) -> None:
        self._name = name
        self._chunks = chunks
        self._events = self._translate(Stream(wants_usage))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    async def _translate(self, stream: Stream) -> AsyncGenerator[bytes, None]:
        splitter = sse.Splitter()
        try:
            async for data in self._chunks:
                made = [
                    sse.encode(chunk)
                    for event in sse.split(splitter.feed(data))
                    if (payload := sse.payload(event))
                    for chunk in stream.feed(payload)
                ]
                if made:
                    yield b"".join(made)
                if stream.done:
                    yield sse.DONE
                    return
        except (StreamFailed, sse.EventTooLarge) as error:
            raise UpstreamBroken(name=self._name, detail=str(error)) from error
        raise UpstreamBroken(name=self._name, detail="the stream ended before the answer did")

    async def aclose(self) -> None:
        """Left early this closes the connection, which tells the server to stop."""
        await self._chunks.aclose()
        await self._events.aclose()
