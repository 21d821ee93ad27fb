"""Work: one batch while an attempt works on it, as a back end sees it; and what a back end is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import msgspec

from fairlead.batch.lines import ENDPOINTS, Input
from fairlead.batch.results import Results
from fairlead.errors import FairleadError
from fairlead.gateway.keyring import Principal, pseudonym
from fairlead.providers.base import Operation
from fairlead.records import Batch


class BatchMoved(Exception):
    """A later attempt has the batch; this one must not go on."""


class BatchRefused(FairleadError):
    """{detail}"""


class Work:
    """``principal`` is on whose behalf it asks. ``stop`` is set when no further request may be started: cancelled, out
    of time, or the key revoked.
    """

    def __init__(
        self,
        batch: Batch,
        principal: Principal,
        requests: Input,
        results: Results,
        change: Callable[..., Awaitable[Batch]],
    ) -> None:
        self.batch = batch
        self.principal = principal
        self.requests = requests
        self.results = results
        self.stop = asyncio.Event()
        self.reason = ""
        self.note = ""
        self._change = change

    @property
    def operation(self) -> Operation:
        """What its requests ask for."""
        return ENDPOINTS[self.batch.endpoint]

    def left(self) -> Iterator[int]:
        """The numbers of the requests without an answer, now."""
        return (number for number, answered in enumerate(self.results.answered) if not answered)

    def end(self, reason: str) -> None:
        """Start nothing more; ``reason`` is the code that unanswered requests get."""
        if not self.stop.is_set():
            self.reason = reason
            self.stop.set()

    async def remember(self, **upstream: str) -> None:
        """Keep what a back end elsewhere goes by, before it is relied on. Raises BatchMoved."""
        self.batch = await self._change(self.batch, {"upstream": {**self.batch.upstream, **upstream}})


def hide_user(body: dict[str, Any], tenant: str, secret: bytes) -> dict[str, Any]:
    """``body`` with a stable stand-in for the caller's user name, as the gateway's path makes it."""
    names = [name for name in ("safety_identifier", "user") if isinstance(body.get(name), str) and body[name]]
    return {**body, **{name: pseudonym(secret, tenant, body[name]) for name in names}}


class Price(msgspec.Struct, frozen=True):
    """Nano-dollars a token, in and out."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> int:
        """What that many tokens cost."""
        return round(input_tokens * self.input + output_tokens * self.output)


class Backend(Protocol):
    """Something that answers the requests of a batch."""

    name: str
    share: float
    """What it costs, as a share of the model's price."""

    async def answer(self, work: Work) -> None:
        """Answer what is left until there is nothing or ``work.stop`` is set.

        Called again after a crash, perhaps while its last work goes on elsewhere. Raises BatchRefused when the batch
        cannot be answered this way at all, anything else when it may be tried again.
        """
        ...
