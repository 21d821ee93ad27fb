"""Recorder: turns finished exchanges into Inference records, off the request path.

``add`` only queues. A little later, in slices short enough that no other request waits for them, the exchange is
parsed, masked, counted and handed to ``record``. The queue is bounded; what does not fit is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from fairlead.gateway.exchange import Exchange, Shown, clock
from fairlead.gateway.fold import Folded
from fairlead.gateway.route import Identity
from fairlead.gateway.usage import cost_of, folded_of, usage_of
from fairlead.records import Inference
from fairlead.secret import hide
from fairlead.telemetry import Telemetry

DELAY_S = 0.1
"""Records are made many at a time: code that is in the processor's cache runs several times faster."""
SLICE_NS = 1_000_000
SHORTEST_PERSONAL = 6
"""No address, phone, card or account number is shorter (``a@b.co``), so most texts of a request need no look."""
LONGEST_DATA_URL = 256
logger = logging.getLogger(__name__)


class Recorder:
    """``mask`` takes personal data out of a text; ``record`` takes the record and says whether it was accepted."""

    def __init__(
        self,
        *,
        record: Callable[[Inference], bool],
        mask: Callable[[str], str],
        identity: Identity,
        telemetry: Telemetry,
        store_content: bool,
        limit: int,
    ) -> None:
        self._record = record
        self._mask = mask
        self._identity = identity
        self._telemetry = telemetry
        self._store_content = store_content
        self._limit = limit
        self._waiting: deque[Exchange] = deque()
        self._timer: asyncio.Handle | None = None

    def add(self, x: Exchange) -> None:
        """Queue a finished exchange."""
        if x.principal is None:
            self._telemetry.count_refused(x.error.code if x.error else "unknown")
            return
        if len(self._waiting) >= self._limit:
            self._telemetry.count_dropped()
            return
        self._waiting.append(x)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._work)

    def flush(self) -> None:
        """Record everything queued, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._take(self._waiting.popleft())

    def _work(self) -> None:
        until = clock() + SLICE_NS
        while self._waiting and clock() < until:
            self._take(self._waiting.popleft())
        self._timer = asyncio.get_running_loop().call_soon(self._work) if self._waiting else None

    def _take(self, x: Exchange) -> None:
        try:
            inference = self._build(x)
            accepted = self._record(inference)
        except Exception:
            logger.exception("The request %s could not be recorded.", x.context.request)
            accepted = False
        if not accepted:
            self._telemetry.count_dropped()

    def _build(self, x: Exchange) -> Inference:
        shown = x.shown if x.error is None else None
        told = shown is not None and shown.output is not None  # nothing has to be read again
        folded = folded_of(x, x.relay) if x.relay is not None and not told else None
        first_us = _first_token_us(x, folded) if folded else None
        tags = x.tags
        usage = usage_of(x)
        if usage.estimated:
            tags["usage"] = "disbelieved" if usage.disbelieved else "estimated"
        tags |= self._oddities(x, folded)
        route = x.route
        cost: int | None = 0
        if route is not None and not x.recalled:  # a model was called
            cost = cost_of(route, usage, hedged="hedge" in tags)
        named = x.named or route
        input_, output = self._texts(x, folded, shown) if self._store_content else ("", "")
        inference = Inference(
            id=x.id,
            time=x.time,
            tenant=x.principal.tenant if x.principal else "",
            subject=x.subject,
            usecase=self._identity.usecase,
            spec_hash=self._identity.spec_hash,
            release=named.release if named else "",
            conversation=x.context.conversation,
            parent=x.context.parent,
            request=x.context.request,
            key=x.principal.key_id if x.principal else "",
            operation=(route.recorded_as if route else None) or x.operation,
            variant=named.variant if named else "",
            provider=route.upstream.name if route else "",
            model=route.model if route else "",
            stream=x.stream,
            status=x.error.status if x.error else 200,
            error=hide(x.error.code) if x.error else "",
            finish=shown.finish if shown is not None else _finish(x, folded),
            input_tokens=usage.input,
            output_tokens=usage.output,
            cached_tokens=usage.cached,
            cost=cost,
            first_token_us=first_us,
            total_us=x.total_us,
            steps=x.steps,
            input=input_,
            output=output,
            tags=tags,
        )
        self._telemetry.observe(
            operation=inference.operation,
            provider=inference.provider,
            model=route.name if route else "",
            error=inference.error,
            seconds=x.total_us / 1e6,
            first_seconds=None if first_us is None else first_us / 1e6,
            input_tokens=usage.input,
            output_tokens=usage.output,
        )
        return inference

    def _oddities(self, x: Exchange, folded: Folded | None) -> dict[str, str]:
        """What is strange about an answer: another model's name on it, events that cannot be read."""
        found: dict[str, str] = {}
        model = folded.model if folded is not None else (x.answer or {}).get("model")
        asked = x.route.model if x.route is not None else ""
        if isinstance(model, str) and model and asked and model != asked and not x.recalled:
            found["answered_as"] = hide(self._mask(model[:100]))
        if folded is not None and folded.unread:
            found["unreadable_events"] = str(folded.unread)
        return found

    def _texts(self, x: Exchange, folded: Folded | None, shown: Shown | None) -> tuple[str, str]:
        """Input and output as they are shown; of a request that came before, as they were shown then."""
        if shown is None:
            return self._text_of(_shown_input(x)), self._text_of(_shown_output(x, folded))
        if shown.input is None or shown.output is None:
            if x.answer is None and x.reply is not None and x.reply.body is not None:
                x.answer = orjson.loads(x.reply.body)
            shown.input, shown.output = self._text_of(_shown_input(x)), self._text_of(_shown_output(x, folded))
        return shown.input, shown.output

    def _text_of(self, value: Any) -> str:
        return orjson.dumps(self._mask_all(value)).decode() if value else ""

    def _mask_all(self, value: Any) -> Any:
        """``value`` with every text in it masked; numbers that could be personal (card, phone) as well."""
        kind = type(value)  # what comes from JSON is of no other
        if kind is str:
            size = len(value)
            if size < SHORTEST_PERSONAL:
                return value
            if size > LONGEST_DATA_URL and value.startswith("data:"):
                return f"[{value[:64].partition(',')[0]}: {size} characters]"
            return self._mask(value)
        if kind is dict:
            return {
                name: part if type(part) is str and len(part) < SHORTEST_PERSONAL else self._mask_all(part)
                for name, part in value.items()
            }
        if kind is list:
            return [self._mask_all(part) for part in value]
        if kind is int and value > 99_999_999:
            text = str(value)
            masked = self._mask(text)
            return value if masked == text else masked
        return value


def _shown_input(x: Exchange) -> dict[str, Any]:
    """What the client sent; the name of its user only as the pseudonym."""
    shown = dict(x.body)
    for name in ("user", "safety_identifier"):
        if shown.get(name) and x.sent.get(name) != shown[name]:
            shown[name] = x.sent[name]
        else:
            shown.pop(name, None)
    return shown


def _shown_output(x: Exchange, folded: Folded | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if folded is not None:
        shown["choices"] = folded.choices
    elif x.operation == "embedding" and x.answer is not None:
        data = x.answer.get("data")
        shown["embeddings"] = len(data) if isinstance(data, list) else 0
    elif x.answer is not None:
        shown["choices"] = x.answer.get("choices")
    if x.error is not None:
        shown["error"] = {"code": hide(x.error.code), "message": hide(str(x.error))}
    return shown


def _finish(x: Exchange, folded: Folded | None) -> str:
    if folded is not None:
        return folded.finish
    choices = (x.answer or {}).get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        reason = choices[0].get("finish_reason")
        return reason if isinstance(reason, str) else ""
    return ""


def _first_token_us(x: Exchange, folded: Folded) -> int | None:
    """When the piece arrived in which the first words began."""
    if folded.first_at is None or x.relay is None:
        return None
    end = 0
    for piece, mark in zip(x.relay.captured, x.marks, strict=False):
        end += len(piece)
        if folded.first_at < end:
            return (mark - x.started) // 1000
    return None
