"""LiteLLM's library as one more provider: the long tail of models that speak a protocol of their own.

The library is an extra and imported when a variant first asks for it: it costs seconds and tens of milliseconds of
processor time a request, so that whoever speaks the OpenAI protocol is better named directly. It reads keys from its
own environment variables when a variant names none.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

from fairlead.errors import ExtraMissing, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply
from fairlead.providers.dialect import GENERIC, translate
from fairlead.providers.network import NETWORK, Network
from fairlead.providers.openai_compatible import error_body


class LiteLLM:
    """An Upstream over ``litellm``. ``model`` is LiteLLM's name, as ``cohere/command-a``; ``base_url`` may be empty."""

    def __init__(
        self, name: str, base_url: str, model: str, api_key: str | None = None, network: Network = NETWORK
    ) -> None:
        self.name = name
        self.model = model
        self._base_url = base_url
        del network  # the library goes its own way
        self._secret = api_key
        self._library: Any = None

    async def open(self, call: Call) -> Reply:
        """Send ``call``; see Upstream.open. Raises ExtraMissing when the library is not installed."""
        library = await self._load()
        seconds = max(0.0, call.deadline - asyncio.get_running_loop().time())
        asked = orjson.loads(translate(GENERIC, self.model, call))
        asked |= {"api_key": self._secret, "timeout": seconds, "num_retries": 0, "max_retries": 0, "drop_params": True}
        if self._base_url:
            asked["api_base"] = self._base_url
        ask = library.aembedding if call.operation == "embedding" else library.acompletion
        try:
            async with asyncio.timeout_at(call.deadline):
                answer = await ask(**asked)
        except TimeoutError as error:
            raise UpstreamTimeout(name=self.name, seconds=round(seconds, 3)) from error
        except library.exceptions.Timeout as error:
            raise UpstreamTimeout(name=self.name, seconds=round(seconds, 3)) from error
        except library.exceptions.APIConnectionError as error:
            raise UpstreamUnreachable(name=self.name, detail=self._hide(str(error))[:300]) from error
        except library.exceptions.openai.OpenAIError as error:  # its own errors are all of this kind
            status = getattr(error, "status_code", None)
            if not isinstance(status, int):
                raise UpstreamBroken(name=self.name, detail=self._hide(str(error))[:300]) from error
            return Reply(status, body=error_body(self._hide(str(error)).encode(), self._secret))
        if call.stream:
            return Reply(200, chunks=self._stream(library, answer))
        return Reply(200, body=orjson.dumps(answer.model_dump(exclude_none=True)))

    async def _stream(self, library: Any, answer: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer:
                yield sse.encode(chunk.model_dump(exclude_none=True))
        except library.exceptions.APIError as error:
            raise UpstreamBroken(name=self.name, detail=self._hide(str(error))[:300]) from error
        yield sse.DONE

    async def _load(self) -> Any:
        if self._library is None:
            try:
                # Seconds of importing must not stop every other request.
                library: Any = await asyncio.to_thread(importlib.import_module, "litellm")
            except ImportError as error:
                raise ExtraMissing(what=f"model litellm:{self.model}", extra="litellm", detail=str(error)) from error
            library.telemetry = False
            library.suppress_debug_info = True
            self._library = library
        return self._library

    def _hide(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text

    async def aclose(self) -> None:
        """Nothing of ours to close; the library keeps its connections."""
