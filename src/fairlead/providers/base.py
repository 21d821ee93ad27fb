"""The one interface behind which everything that answers stands: HTTP providers, in-process engines, the assistant.

An Upstream takes an OpenAI-shaped request and gives an OpenAI-shaped answer; whoever speaks another dialect
translates inside. It knows nothing of keys, tenants' limits or records.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from fairlead.records import Priority

Operation = Literal["chat", "completion", "embedding"]


class CallContext(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks and on behalf of what; travels with a call, is never sent to a provider as is.

    ``payer`` is the account of the key whose budget the call is on, empty when there is no key. ``alone``: nobody
    stands in for a model that fails, because it is that model which is measured.
    """

    request: str = ""
    tenant: str = "default"
    subject: str = ""
    conversation: str = ""
    parent: str = ""
    channel: str = "api"
    payer: str = ""
    priority: Priority = "standard"
    alone: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``body`` is the OpenAI-shaped JSON with ``model`` already the upstream's own name.

    ``deadline`` is a time of ``asyncio.get_running_loop().time()`` in seconds.
    """

    operation: Operation
    body: dict[str, Any]
    stream: bool
    deadline: float
    context: CallContext


class Pumped(abc.ABC):
    """Chunks that can also be handed on as they arrive, without waking a task for each."""

    @abc.abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks, one by one."""

    @abc.abstractmethod
    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """Call ``take`` with every chunk that is left; returns at the end. Raises what iterating raises, and what
        ``take`` raises. When ``take`` returns False, no more comes until ``resume``.
        """

    @abc.abstractmethod
    def resume(self) -> None:
        """More may come. Idempotent."""


class Reply:
    """An answer: either ``body`` (complete JSON) or ``chunks`` (server-sent events as bytes, each whole events or not).

    The receiver must call ``aclose`` in every case; for a stream that is not exhausted this cancels the work upstream.
    """

    __slots__ = ("body", "chunks", "headers", "status")

    def __init__(
        self,
        status: int,
        *,
        body: bytes | None = None,
        chunks: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.chunks = chunks
        self.headers = headers or {}

    async def aclose(self) -> None:
        """Release the connection; cancels a stream that is still running."""
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await close()


class Upstream(Protocol):
    """Something that answers OpenAI-shaped requests."""

    name: str

    async def open(self, call: Call) -> Reply:
        """Send the call. Returns when the status is known (a stream's chunks follow).

        Raises errors.UpstreamUnreachable before anything was received, errors.UpstreamTimeout at the deadline.
        An HTTP error status of the upstream is a Reply with that status, not an exception. A stream that breaks
        raises errors.UpstreamBroken from ``chunks``.
        """
        ...

    async def aclose(self) -> None:
        """Close pooled connections. Idempotent."""
        ...
