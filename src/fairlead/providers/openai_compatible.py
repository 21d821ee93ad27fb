"""Any server that speaks the OpenAI protocol: OpenAI itself, vLLM, llama.cpp, Ollama and many more.

Translating a request is in ``dialect``, calling in ``http``; here they are put together. Streams are relayed as bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from fairlead.errors import UpstreamBroken, UpstreamTimeout
from fairlead.providers.base import Call, Reply
from fairlead.providers.deadline import Until
from fairlead.providers.dialect import OPENAI, PATHS, Dialect, translate
from fairlead.providers.http import Chunks, HttpClient

_LONGEST_MESSAGE = 2000


class OpenAICompatible:
    """An Upstream over HTTP.

    ``base_url`` ends where the protocol's paths begin (``http://127.0.0.1:8000/v1``); ``model`` is the name the server
    knows; ``api_key`` is sent as a bearer token and shown nowhere.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        model: str,
        api_key: str | None = None,
        connect_timeout_s: float = 5.0,
        dialect: Dialect = OPENAI,
    ) -> None:
        self.name = name
        self.model = model
        self.dialect = dialect
        self._secret = api_key
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "fairlead"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._http = HttpClient(name, base_url, headers=headers, connect_timeout_s=connect_timeout_s)

    async def open(self, call: Call) -> Reply:
        """Send ``call``; see Upstream.open."""
        seconds = call.deadline - asyncio.get_running_loop().time()
        try:
            with Until(call.deadline):
                return await self._open(call, seconds)
        except TimeoutError as error:
            raise UpstreamTimeout(name=self.name, seconds=max(0.0, round(seconds, 3))) from error

    async def _open(self, call: Call, seconds: float) -> Reply:
        data = translate(self.dialect, self.model, call)
        response = await self._http.post(PATHS[call.operation], data)
        kind = response.headers.get("content-type", "")
        if response.status == 200:
            if not call.stream:
                return Reply(200, body=await response.read())
            if kind.startswith("text/event-stream"):
                return Reply(200, chunks=Chunks(self.name, response, call.deadline, round(seconds, 3)))
            await response.read()
            raise UpstreamBroken(name=self.name, detail=f"asked for a stream, it sent {kind or 'an untyped body'}")
        retry = response.headers.get("retry-after")
        body = error_body(await response.read(), self._secret)
        return Reply(response.status, body=body, headers={"retry-after": retry} if retry else {})

    async def aclose(self) -> None:
        """Close pooled connections. Idempotent."""
        await self._http.aclose()


def error_body(body: bytes, secret: str | None) -> bytes:
    """An upstream's error in OpenAI's shape, whatever it was; our own secret never in it."""
    error = read_error(body)
    if secret:
        error = {
            name: value.replace(secret, "[key]") if isinstance(value, str) else value for name, value in error.items()
        }
    return orjson.dumps({"error": error})


def read_error(body: bytes) -> dict[str, Any]:
    """The ``error`` object in ``body``; servers put it under several names, or send plain text or HTML."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = body.decode("utf-8", "replace")
        if answer.lstrip().startswith("<"):
            answer = ""
    found = answer
    if isinstance(answer, dict):
        found = next((answer[name] for name in ("error", "detail", "message") if answer.get(name)), "")
    if isinstance(found, dict):
        error = {name: found.get(name) for name in ("message", "type", "param", "code")}
    else:
        error = {"message": found if isinstance(found, str) else orjson.dumps(found).decode() if found else ""}
    message = error.get("message")
    error["message"] = (message if isinstance(message, str) else "")[:_LONGEST_MESSAGE]
    return error
