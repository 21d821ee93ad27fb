"""The embedder behind `/v1/embeddings`: an Engine whose Upstream answers in this very process.

Takes a text or a list of texts, gives floats or base64 (little-endian float32), counts words as tokens. Token arrays
are refused, for this model has no token ids; other dimensions than its own are refused too, because its vectors do not
lose meaning evenly when cut.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fairlead.engines.base import Health
from fairlead.engines.embed.embedder import WEIGHTS, Embedder, shared
from fairlead.engines.embed.words import words_of
from fairlead.errors import RequestRefused
from fairlead.providers.base import Call, Reply

MOST_INPUTS = 2048
_JSON = {"content-type": "application/json"}


class Embed:
    """The embedder as an engine; see docs/models/embed.md."""

    def __init__(self, name: str = "embed", *, weights: Path = WEIGHTS) -> None:
        self.name = name
        self._weights = weights
        self._embedder: Embedder | None = None

    async def start(self) -> None:
        """Load the weights. Raises WeightsMissing or WeightsDamaged."""
        self._load()

    async def stop(self) -> None:
        """Forget the weights. Idempotent."""
        self._embedder = None

    def health(self) -> Health:
        """Ready once started; it has no process of its own."""
        return Health(state="ready" if self._embedder else "stopped", detail="answers in this process")

    def upstream(self) -> EmbedUpstream:
        """Where to send calls. Loads the weights if the engine was not started."""
        return EmbedUpstream(self.name, self._load())

    def _load(self) -> Embedder:
        if self._embedder is None:
            self._embedder = shared() if self._weights == WEIGHTS else Embedder.load(self._weights)
        return self._embedder


class EmbedUpstream:
    """Takes embedding calls, gives OpenAI-shaped replies; everything else is refused with a 400."""

    def __init__(self, name: str, embedder: Embedder) -> None:
        self.name = name
        self._embedder = embedder

    async def open(self, call: Call) -> Reply:
        """Answer a call; never leaves the process, raises nothing."""
        try:
            if call.operation != "embedding":
                detail = f"The model {self.name} makes embeddings; it cannot serve {call.operation} requests."
                raise RequestRefused(param="model", detail=detail)
            return Reply(200, body=_answer(call.body, self._embedder), headers=_JSON)
        except RequestRefused as error:
            return Reply(error.status, body=_refusal(error), headers=_JSON)

    async def aclose(self) -> None:
        """Nothing to close."""


def _answer(body: Mapping[str, Any], embedder: Embedder) -> bytes:
    texts = _inputs(body.get("input"))
    wanted = body.get("dimensions")
    if wanted is not None and wanted != embedder.dimension:
        detail = f"This model has {embedder.dimension} dimensions; it cannot give {wanted!r}. Leave `dimensions` out."
        raise RequestRefused(param="dimensions", detail=detail)
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64", None):
        raise RequestRefused(param="encoding_format", detail=f"`encoding_format` is {encoding!r}; use float or base64.")
    lists = [words_of(text) for text in texts]
    vectors = embedder.encode_lists(lists)
    data = [
        {
            "object": "embedding",
            "index": i,
            "embedding": base64.b64encode(v.astype("<f4").tobytes()).decode() if encoding == "base64" else v,
        }
        for i, v in enumerate(vectors)
    ]
    tokens = sum(map(len, lists))
    model = body.get("model")
    answer = {
        "object": "list",
        "data": data,
        "model": model if isinstance(model, str) else "embed",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    # Python's own json took 180 µs for the digits of one vector, ten times what making it takes.
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _inputs(raw: Any) -> list[str]:
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list) or not texts:
        raise RequestRefused(param="input", detail="`input` must be a text or a list of at least one text.")
    if len(texts) > MOST_INPUTS:
        raise RequestRefused(
            param="input", detail=f"`input` holds {len(texts)} texts; at most {MOST_INPUTS} are possible."
        )
    if any(isinstance(t, int | list) for t in texts):
        raise RequestRefused(
            param="input", detail="Token arrays are not possible: this model reads texts. Send strings."
        )
    if not all(isinstance(t, str) for t in texts):
        raise RequestRefused(param="input", detail="Every entry of `input` must be a text.")
    if not all(texts):
        raise RequestRefused(param="input", detail="An entry of `input` is empty. Leave empty texts out.")
    return texts


def _refusal(error: RequestRefused) -> bytes:
    details = {"message": str(error), "type": error.kind, "param": error.details.get("param"), "code": error.code}
    return json.dumps({"error": details}).encode("utf-8", "backslashreplace")
