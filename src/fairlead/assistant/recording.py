"""What is kept of an assistant's answers: the columns of every row, masked texts, and a trace for each answer.

Knows the store's records, and nothing of how an answer is found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fairlead.assistant.agent import Outcome
from fairlead.errors import ServiceError
from fairlead.providers.base import CallContext
from fairlead.records import Inference, new_id, now_us
from fairlead.spec import UseCase, Variant

WAITED_FOR: Final = frozenset({"chat", "widget", "cli"})
"""Channels at whose other end a person waits."""


class Recording:
    """``releases`` are release hashes by variant, ``mask`` masks what is stored, ``record`` takes traces; a full queue
    is counted there.
    """

    def __init__(
        self,
        usecase: UseCase,
        releases: Mapping[str, str],
        mask: Callable[[str], str],
        record: Callable[[Inference], bool],
    ) -> None:
        self.usecase = usecase
        self.keeps_texts = usecase.policy.privacy.store_content
        self.record = record
        self._releases = releases  # not a copy: an engine that is replaced changes it
        self._mask = mask

    def release_of(self, variant: str) -> str:
        """The release's hash; empty when there is none."""
        return self._releases.get(variant, "")

    def columns(self, identifier: str, time: int, tenant: str, subject: str, variant: str = "") -> dict[str, Any]:
        """What every row has; ``variant`` is the live one unless given."""
        return {
            "id": identifier,
            "time": time,
            "tenant": tenant,
            "subject": subject,
            "usecase": self.usecase.name,
            "spec_hash": self.usecase.spec_hash,
            "release": self.release_of(variant or self.usecase.live.id),
        }

    def text(self, said: str) -> str:
        """``said`` as it may be stored: masked, and nothing where texts are not kept."""
        return self._mask(said) if self.keeps_texts else ""

    def text_of(self, value: Any) -> str:
        """The same of JSON data, as JSON."""
        return msgspec.json.encode(self.masked(value)).decode() if self.keeps_texts else ""

    def masked(self, value: Any) -> Any:
        """JSON data with every text in it masked."""
        if isinstance(value, str):
            return self._mask(value)
        if isinstance(value, list | tuple):
            return [self.masked(part) for part in value]
        if isinstance(value, dict):
            return {key: self.masked(part) for key, part in value.items()}
        return value


class Trace:
    """The record of one answer, parent of the model calls made for it."""

    def __init__(
        self,
        recording: Recording,
        tenant: str,
        subject: str,
        conversation: str,
        channel: str,
        outer: CallContext | None = None,
    ) -> None:
        self._recording = recording
        self._outer = outer or CallContext()
        self.id = new_id()
        self.time = now_us()
        self.tenant, self.subject = tenant, subject
        self.conversation, self.channel = conversation, channel
        self.total_us = 0
        self.open = True
        self._began = time.perf_counter_ns()

    def context(self) -> CallContext:
        """The context of the calls below."""
        return CallContext(
            request=self._outer.request or self.id, tenant=self.tenant, subject=self.subject,
            conversation=self.conversation, parent=self.id, channel=self.channel,
            payer=self._outer.payer, priority="interactive" if self.channel in WAITED_FOR else self._outer.priority,
            alone=self._outer.alone,
        )  # fmt: skip

    def finish(self, outcome: Outcome, text: str) -> None:
        """Record an answer."""
        shown = {
            "text": outcome.text,
            "act": outcome.act,
            "confidence": outcome.confidence,
            "sources": [source.location for source in outcome.sources],
        }
        self._record(
            outcome.variant, text, shown, steps=outcome.steps, tags={"act": outcome.act, **outcome.tags},
            first_token_us=outcome.first_text_us, finish="stop",
            input_tokens=outcome.input_tokens, output_tokens=outcome.output_tokens,
        )  # fmt: skip

    def fail(self, error: ServiceError, variant: Variant, text: str, said: str) -> None:
        """Record that there was no answer, or only a piece."""
        self._record(variant.id, text, {"text": said}, status=error.status, error=error.code)

    def cancel(self, variant: Variant, text: str, said: str) -> None:
        """Record that nobody waited for the end."""
        self._record(variant.id, text, {"text": said}, status=499, error="cancelled")

    def _record(self, variant: str, text: str, shown: dict[str, Any], **more: Any) -> None:
        if not self.open:
            return
        self.open = False
        self.total_us = (time.perf_counter_ns() - self._began) // 1000
        recording = self._recording
        recording.record(
            Inference(
                **recording.columns(self.id, self.time, self.tenant, self.subject, variant),
                conversation=self.conversation,
                parent=self._outer.parent,
                request=self._outer.request or self.id,
                operation="assistant",
                variant=variant,
                provider="fairlead",
                model=recording.usecase.name,
                total_us=self.total_us,
                input=recording.text_of({"message": text}),
                output=recording.text_of(shown),
                **more,
            )
        )
