"""Back end `gateway`: asks the models live traffic asks, by the same path, on what room that leaves."""

from __future__ import annotations

import asyncio
import random
from collections import deque

from fairlead.batch.results import Answer, success
from fairlead.batch.spare import Spare
from fairlead.batch.work import Work
from fairlead.errors import ServiceError, UpstreamRefused, UpstreamUnreachable
from fairlead.gateway import Gateway
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.http import error_object
from fairlead.gateway.usage import cost_of, usage_of
from fairlead.providers.base import CallContext
from fairlead.records import new_id

FLAKY = frozenset((408, 500, 502, 504))
TRIES = 4
"""Asks of one request whose own answer fails."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
GRACE_S = 20.0
"""How long requests that run may go on when a batch is stopped."""


class Live:
    """Answers through ``gateway``, at most ``places`` requests at once; ``spare`` counts them for the process."""

    name = "gateway"
    share = 1.0

    def __init__(self, gateway: Gateway, spare: Spare, places: int) -> None:
        self._gateway = gateway
        self._spare = spare
        self._places = places

    async def answer(self, work: Work) -> None:
        """See Backend.answer."""
        todo = deque(work.left())
        lanes = [asyncio.create_task(self._lane(work, todo)) for _ in range(min(self._places, len(todo)))]
        if not lanes:
            return
        stopped = asyncio.create_task(work.stop.wait())
        try:
            pending = set(lanes)
            while pending and not stopped.done():
                done, _ = await asyncio.wait({*pending, stopped}, return_when=asyncio.FIRST_COMPLETED)
                pending -= done
                for lane in done - {stopped}:
                    await lane  # a full disk ends the attempt, not only the lane
            if pending:
                await asyncio.wait(pending, timeout=GRACE_S)
        finally:
            for task in (*lanes, stopped):
                task.cancel()
            await asyncio.gather(*lanes, stopped, return_exceptions=True)

    async def _lane(self, work: Work, todo: deque[int]) -> None:
        while todo:
            async with self._spare.place(self._places, work.stop) as may:
                if not may or not todo:
                    return
                number = todo.popleft()
                answer, pause_s = await self._ask(work, number)
            if answer is not None:
                work.results.add(answer)
                work.note = ""
            else:  # outside the place: waiting must not keep others from it
                todo.append(number)
                await _pause(work, pause_s)

    async def _ask(self, work: Work, number: int) -> tuple[Answer | None, float]:
        """The answer, or how long to wait before it may be asked again."""
        request = work.requests.read(number)
        attempt = 0
        while True:
            attempt += 1
            context = CallContext(request=new_id(), tenant=work.batch.tenant, channel="batch", priority="batch")
            try:
                x = await self._gateway.ask(
                    request.body, principal=work.principal, context=context, operation=work.operation
                )
            except ServiceError as error:
                if _is_away(error):
                    work.note = str(error)
                    return None, _seconds(error)
                if error.status in FLAKY and attempt < TRIES and not work.stop.is_set():
                    await _pause(work, random.uniform(0, FIRST_PAUSE_S * 2**attempt))
                    continue
                line = success(request.custom_id, error.status, context.request, error_object(error, context.request))
                return Answer(number=number, ok=False, line=line, cost=0), 0.0
            line = success(request.custom_id, 200, context.request, x.answer)
            return _priced(number, line, x), 0.0


def _is_away(error: ServiceError) -> bool:
    """Whether the model answers nobody now, or not us: the batch waits, and no request is given up for it."""
    if isinstance(error, UpstreamRefused):
        return error.details.get("upstream_status") in (401, 403, 429, 503, 529)
    return isinstance(error, UpstreamUnreachable) or error.status in (429, 503)


def _priced(number: int, line: bytes, x: Exchange) -> Answer:
    """What an answer cost, as its record and the ledger have it; nothing when no model was asked, unknown without a
    price.
    """
    usage = usage_of(x)
    cost = 0 if x.recalled or x.route is None else cost_of(x.route, usage)
    return Answer(number=number, ok=True, line=line, input_tokens=usage.input, output_tokens=usage.output, cost=cost)


def _seconds(error: ServiceError) -> float:
    """What the model asks for, else half a minute at most, drawn so that lanes do not come back together."""
    try:
        asked = float(str(error.details.get("retry_after") or 0))
    except ValueError:
        asked = 0.0
    return min(LONGEST_PAUSE_S, asked) + random.uniform(0.05, 1.0)


async def _pause(work: Work, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work.stop.wait()
    except TimeoutError:
        return
