"""Any server that speaks the OpenAI protocol: OpenAI itself, vLLM, llama.cpp, Ollama and many more.

Translating a request is in ``dialect``, calling in ``http``; here they are put together. Streams are relayed as bytes.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import orjson

from fairlead.errors import UpstreamBroken
from fairlead.providers.aws import Credentials, Signer, region_of
from fairlead.providers.base import Call, Reply
from fairlead.providers.dialect import GENERIC, PATHS, Dialect, Untranslatable, translate
from fairlead.providers.http import HttpClient
from fairlead.providers.network import NETWORK, Network
from fairlead.providers.reshape import Reshaped, Reshaper

_LONGEST_MESSAGE = 2000


class OpenAICompatible:
    """An Upstream over HTTP.

    ``base_url`` ends where the protocol's paths begin (``http://127.0.0.1:8000/v1``); a query goes behind every path.
    ``model`` is the name the server knows; a call that names one of ``others`` (adapters of that model) gets that one.
    ``api_key`` is sent as the dialect says and shown nowhere.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        model: str,
        api_key: str | None = None,
        network: Network = NETWORK,
        dialect: Dialect = GENERIC,
        others: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.model = model
        self.dialect = dialect
        self._others = others
        base_url, mark, query = base_url.partition("?")
        self._base_url = base_url
        self._query = mark + query
        self._reshaper = Reshaper(dialect.answers)
        credentials = Credentials.read(api_key) if dialect.signs else None
        self._signer = (
            Signer(credentials, region_of(urlsplit(base_url).hostname or ""), "bedrock") if credentials else None
        )
        self._secret = credentials.secret if credentials else api_key
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "fairlead"}
        if api_key and self._signer is None:
            headers[dialect.key_header] = f"Bearer {api_key}" if dialect.key_header == "authorization" else api_key
        self._http = HttpClient(name, base_url, headers=headers, network=network)

    async def open(self, call: Call) -> Reply:
        """Send ``call``; see Upstream.open. What the server cannot do is a Reply with status 400."""
        try:
            asked = call.body.get("model") if self._others else None
            data = translate(self.dialect, asked if asked in self._others else self.model, call)
        except Untranslatable as error:
            return Reply(400, body=refusal_body(str(error), error.param))
        path = PATHS[call.operation] + self._query
        extra = self._signed(path, data) if self._signer else b""
        response = await self._http.post(path, data, extra, deadline=call.deadline, stream=call.stream)
        if response.status == 200:
            if not call.stream:
                body = await response.read()
                return Reply(200, body=self._reshaper.whole(body) if self._reshaper.needed else body)
            kind = response.headers.get("content-type", "")
            if kind.startswith("text/event-stream"):
                return Reply(
                    200, chunks=Reshaped(self.name, response, self._reshaper) if self._reshaper.needed else response
                )
            await response.read()
            raise UpstreamBroken(name=self.name, detail=f"asked for a stream, it sent {kind or 'an untyped body'}")
        retry = response.headers.get("retry-after")
        raw = await response.read()
        if response.status == 500 and self.dialect.too_long and self.dialect.too_long.encode() in raw:
            message = read_error(raw)["message"].partition(". ")[0]  # what follows is advice to who runs the server
            return Reply(400, body=refusal_body(message, "input", "context_length_exceeded"))
        body = error_body(raw, self._secret)
        return Reply(response.status, body=body, headers={"retry-after": retry} if retry else {})

    def _signed(self, path: str, data: bytes) -> bytes:
        assert self._signer is not None
        headers = self._signer.headers("POST", self._base_url + path, data)
        return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")

    async def aclose(self) -> None:
        """Close pooled connections. Idempotent."""
        await self._http.aclose()


def refusal_body(message: str, param: str | None, code: str = "unsupported_parameter") -> bytes:
    """The body of a refusal in our words."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return orjson.dumps({"error": error})


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
    if isinstance(answer, list) and answer and isinstance(answer[0], dict) and "error" in answer[0]:
        answer = answer[0]  # as Google's servers wrap it
    found = answer
    if isinstance(answer, dict):
        found = next((answer[name] for name in ("error", "detail", "message") if answer.get(name)), "")
    if isinstance(found, dict) and found.get("detail") and not found.get("message"):
        found = found["detail"]  # as Mistral's do
    if isinstance(found, dict):
        error = {name: found.get(name) for name in ("message", "type", "param", "code")}
    else:
        error = {"message": found if isinstance(found, str) else orjson.dumps(found).decode() if found else ""}
    message = error.get("message")
    error["message"] = (message if isinstance(message, str) else "")[:_LONGEST_MESSAGE]
    return error
