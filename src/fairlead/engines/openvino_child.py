"""The process that holds a model with OpenVINO GenAI: its continuous batching behind the OpenAI protocol on loopback.

Started by ``openvino.OpenVino`` as ``python -m fairlead.engines.openvino_child``; everything it needs comes over the
lifeline. The library brings no server, so this is one: whole answers and streams, cancelled when their client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final
from uuid import uuid4

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fairlead.engines.lifeline import Lifeline
from fairlead.engines.openvino_runner import Job, Piece, Runner, Stops, Words
from fairlead.providers import sse

LONGEST: Final = 2048
"""Tokens of an answer where the request does not say."""


class Refused(ValueError):
    """A request the model cannot answer; the text says why, ``param`` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class Model:
    """The pipeline, its tokenizer and what is asked of them."""

    def __init__(self, config: dict[str, Any]) -> None:
        # Native and untyped. Not imported at the top: the lifeline must hold before the library is loaded.
        self._library: Any = importlib.import_module("openvino_genai")
        scheduler = self._library.SchedulerConfig()
        scheduler.max_num_seqs = config["slots"]
        scheduler.cache_size = 0  # grows as needed
        scheduler.enable_prefix_caching = False  # it has no salt: one tenant could time another's prompts
        self._pipeline = self._library.ContinuousBatchingPipeline(
            config["model"], scheduler, "CPU", {"INFERENCE_NUM_THREADS": config["threads"]}
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._context: int = config["context"]
        self.name: str = config["name"]
        self._runner = Runner(self._pipeline, _give_up)
        self._runner.start()

    def begin(self, body: dict[str, Any], *, chat: bool) -> Job:
        """Start on a request. Raises Refused."""
        ids, count = self._encode(self._prompt(body, chat=chat))
        if count >= self._context:
            raise Refused(f"the request has {count} tokens; this model takes fewer than {self._context}", "messages")
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or LONGEST
        config = self._config(body, min(wanted, self._context - count))
        stop = body.get("stop") or []
        job = Job(ids, config, Words(self._decode), Stops([stop] if isinstance(stop, str) else stop), read=count)
        self._runner.add(job)
        return job

    def _prompt(self, body: dict[str, Any], *, chat: bool) -> str:
        if not chat:
            prompt = body.get("prompt")
            if not isinstance(prompt, str):
                raise Refused("prompt must be one text", "prompt")
            return prompt
        messages = [{"role": each["role"], "content": _text(each.get("content"))} for each in body["messages"]]
        try:
            return str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True))
        except RuntimeError as error:
            raise Refused(
                f"the model's chat template does not take these messages: {str(error)[:300]}", "messages"
            ) from None

    def _encode(self, prompt: str) -> tuple[Any, int]:
        ids = self._tokenizer.encode(prompt, add_special_tokens=False).input_ids
        return ids, int(ids.shape[1])

    def _decode(self, ids: Any) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def _config(self, body: dict[str, Any], most: int) -> Any:
        config = self._pipeline.get_config()
        config.max_new_tokens = most
        config.apply_chat_template = False
        temperature = body.get("temperature")
        config.do_sample = temperature != 0
        if config.do_sample:
            config.temperature = float(1.0 if temperature is None else temperature)
            config.top_p = float(body.get("top_p") or 1.0)
            config.rng_seed = (
                int(body["seed"]) % 2**31 if body.get("seed") is not None else int.from_bytes(os.urandom(3))
            )
            if body.get("top_k"):
                config.top_k = int(body["top_k"])
        for name in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
            if body.get(name) is not None:
                setattr(config, name, float(body[name]))
        config.ignore_eos = body.get("ignore_eos") is True
        try:
            config.validate()
        except RuntimeError as error:
            raise Refused(f"the model does not take these settings: {str(error)[:300]}", "temperature") from None
        return config


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise Refused("this model takes texts alone", "messages")
        texts.append(text)
    return "\n".join(texts)


def _give_up(error: Exception) -> None:
    """Whoever supervises this process starts another."""
    print(f"the pipeline failed: {error}", file=sys.stderr, flush=True)  # noqa: T201  the log of the engine
    os._exit(1)


class Server:
    """The protocol around a model; ``key`` opens it."""

    def __init__(self, model: Model, key: str) -> None:
        self._model = model
        self._key = key.encode()
        self.app = Starlette(
            routes=[
                Route("/health", lambda _: Response(b"", 200)),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(given, self._key):
            return _refuse(401, "a wrong key", None)
        try:
            body = orjson.loads(await request.body())
            job = self._model.begin(body, chat=chat)
        except Refused as error:
            return _refuse(400, str(error), error.param)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            return _refuse(400, f"a request that cannot be read ({error})", None)
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": self._model.name}
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return StreamingResponse(_events(job, head, chat=chat, usage=usage), media_type="text/event-stream")
        return await _whole(request, job, head, chat=chat)


async def _pieces(job: Job) -> AsyncGenerator[Piece, None]:
    """What comes of a job; leaving early cancels it."""
    try:
        while True:
            piece = await job.pieces.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if piece[1] is not None:
                return
    finally:
        job.cancelled = True  # of one that has ended it means nothing


async def _events(job: Job, head: dict[str, Any], *, chat: bool, usage: bool) -> AsyncIterator[bytes]:
    head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
    if chat:
        yield _event(head, {"delta": {"role": "assistant", "content": ""}}, None)
    try:
        async with contextlib.aclosing(_pieces(job)) as pieces:
            async for text, finish in pieces:
                if text:
                    yield _event(head, {"delta": {"content": text}} if chat else {"text": text}, None)
                if finish:
                    yield _event(head, {"delta": {}} if chat else {"text": ""}, finish)
    except (RuntimeError, ValueError) as error:
        yield sse.encode({"error": {"message": str(error)[:500], "type": "server_error", "param": None, "code": None}})
        return
    if usage:
        yield sse.encode({**head, "choices": [], "usage": _usage(job)})
    yield sse.DONE


def _event(head: dict[str, Any], said: dict[str, Any], finish: str | None) -> bytes:
    return sse.encode({**head, "choices": [{"index": 0, **said, "finish_reason": finish, "logprobs": None}]})


async def _whole(request: Request, job: Job, head: dict[str, Any], *, chat: bool) -> Response:
    collecting = asyncio.ensure_future(_collect(job))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(b"", 499)
        text, finish = collecting.result()
    except (RuntimeError, ValueError) as error:
        return _refuse(500, str(error)[:500], None)
    finally:
        for task in (collecting, leaving):
            task.cancel()
        await asyncio.gather(collecting, leaving, return_exceptions=True)
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = {"index": 0, **said, "finish_reason": finish, "logprobs": None}
    kind = "chat.completion" if chat else "text_completion"
    return JSONResponse({**head, "object": kind, "choices": [choice], "usage": _usage(job)})


async def _collect(job: Job) -> tuple[str, str]:
    texts: list[str] = []
    ended = "stop"
    async with contextlib.aclosing(_pieces(job)) as pieces:
        async for text, finish in pieces:
            texts.append(text)
            ended = finish or ended
    return "".join(texts), ended


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _usage(job: Job) -> dict[str, int]:
    return {"prompt_tokens": job.read, "completion_tokens": job.written, "total_tokens": job.read + job.written}


def _refuse(status: int, message: str, param: str | None) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": None}}, status)


def main() -> int:
    """Serve until SIGTERM or until the parent is gone. Exit status 1 when the model could not be served."""
    lifeline = Lifeline()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = lifeline.receive()
    try:
        model = Model(config)
        listener = socket.create_server(("127.0.0.1", 0))
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        lifeline.report(error=str(error).strip().splitlines()[0][:500])
        return 1
    lifeline.report(listening=f"http://127.0.0.1:{listener.getsockname()[1]}")
    options = uvicorn.Config(
        Server(model, config["key"]).app, log_level="error", access_log=False, lifespan="off", ws="none"
    )
    uvicorn.Server(options).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
