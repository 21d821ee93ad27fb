"""The extractive engine as the rest of the house sees it: an Engine whose Upstream answers in this very process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fairlead.engines.base import Health
from fairlead.engines.embed.embedder import WEIGHTS, Embedder
from fairlead.engines.extractive import protocol
from fairlead.engines.extractive.evidence import CALIBRATION, Readers, shared
from fairlead.engines.extractive.reply import respond
from fairlead.engines.scorer import shared as scorer_of_process
from fairlead.errors import RequestRefused
from fairlead.providers.base import Call, Reply

_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Extractive:
    """Answers by quoting the request's documents; see docs/models/extractive.md."""

    def __init__(self, name: str = "extractive", *, weights: Path = WEIGHTS) -> None:
        self.name = name
        self._weights = weights
        self._readers: Readers | None = None

    async def start(self) -> None:
        """Load the embedder and the scorer. Raises WeightsMissing or WeightsDamaged."""
        self._load()

    async def stop(self) -> None:
        """Forget the models. Idempotent."""
        self._readers = None

    def health(self) -> Health:
        """Ready once started; it has no process of its own."""
        return Health(state="ready" if self._readers else "stopped", detail="answers in this process")

    def upstream(self) -> ExtractiveUpstream:
        """Where to send calls. Loads the models if the engine was not started."""
        return ExtractiveUpstream(self.name, self._load())

    def _load(self) -> Readers:
        if self._readers is None:
            alone = self._weights == WEIGHTS
            self._readers = shared() if alone else Readers(Embedder.load(self._weights), scorer_of_process())
        return self._readers


class ExtractiveUpstream:
    """Takes chat calls, gives OpenAI-shaped replies; everything else is refused with a 400."""

    def __init__(self, name: str, readers: Readers) -> None:
        self.name = name
        self._readers = readers
        digests = f"{readers.embedder.digest}{readers.scorer.digest}".encode()
        self._fingerprint = "fp_" + hashlib.sha256(digests + CALIBRATION.read_bytes()).hexdigest()[:10]

    async def open(self, call: Call) -> Reply:
        """Answer a call; never leaves the process, raises nothing."""
        try:
            if call.operation != "chat":
                raise RequestRefused(
                    param="model",
                    detail=f"The extractive engine serves chat completions, not {call.operation} requests.",
                )
            request, options = protocol.read(call.body)
            shaped = protocol.shape(respond(request, self._readers), call.body, options, self._fingerprint)
        except RequestRefused as error:
            return Reply(error.status, body=protocol.refusal(error), headers=_JSON)
        if call.stream:
            return Reply(200, chunks=_relay(protocol.events(shaped, options)), headers=_EVENTS)
        return Reply(200, body=protocol.completion(shaped, options), headers=_JSON)

    async def aclose(self) -> None:
        """Nothing to close."""


async def _relay(events: Iterator[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event
