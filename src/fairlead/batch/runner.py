"""The runner: takes one batch from its input to its files. The handler behind jobs of the kind ``batch``.

It may be called again at any moment of a batch's life and goes on where the last attempt stopped. What counts is the
journal of answers and the batch's row; the folder is deleted when the row says that it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairlead.batch.lines import ENDPOINTS, Input, Inspected, Inspector, Limits
from fairlead.batch.results import Results, failure
from fairlead.batch.work import Backend, BatchMoved, BatchRefused, Work
from fairlead.errors import FairleadError
from fairlead.gateway import Principal, Route
from fairlead.gateway.keyring import principal_of
from fairlead.gateway.route import find_route
from fairlead.jobs import Lease
from fairlead.records import Batch, Key, StoredFile, new_id, now_us
from fairlead.store import Store
from fairlead.store.batches import INPUT
from fairlead.store.files import place

KIND = "batch"
LOOK_S = 1.0
"""How often the row is looked at and written."""
SLICE_S = 0.001
"""Longest time the input is read at a stretch, so that live requests do not wait for it."""
LONGEST_NOTE = 500
ENDED = ("failed", "completed", "expired", "cancelled")
WORDS: Mapping[str, str] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed before the batch was cancelled.",
    "key_revoked": "This request was not executed before the key that asked for it was revoked.",
}


class Runner:
    """``backend_of`` says who answers for a route, ``holder`` whom a key's id stands for now, None if it is revoked."""

    def __init__(
        self,
        store: Store,
        routes: Mapping[str, Route],
        backend_of: Callable[[Route], Backend],
        *,
        limits: Limits,
        holder: Callable[[str], Principal | None],
        look_s: float = LOOK_S,
    ) -> None:
        self._store = store
        self._routes = routes
        self._backend_of = backend_of
        self._limits = limits
        self._holder = holder
        self._look_s = look_s

    async def __call__(self, lease: Lease) -> None:
        """Do what is left of the batch in ``lease``."""
        identifier = lease.job.payload["batch"]
        batch = await asyncio.to_thread(self._store.batches.begin, identifier, lease.job.attempt)
        if batch is None:
            return
        try:
            if batch.status not in ENDED:
                await self._run(lease, batch)
        except BatchMoved:
            return
        except FairleadError as error:  # tried again by the worker; until then the batch says what is in its way
            with contextlib.suppress(FairleadError):
                await asyncio.to_thread(self._store.batches.change, batch, {"note": str(error)[:LONGEST_NOTE]})
            raise
        await asyncio.to_thread(self._store.batches.clear, identifier)

    async def _run(self, lease: Lease, batch: Batch) -> None:
        path = self._store.batches.folder(batch.id) / INPUT
        if not path.is_file():
            await self._refuse(batch, Inspected(), "file_lost", "The input file is gone from the store.")
            return
        with contextlib.closing(Input(path, self._limits)) as requests:
            if "in_progress" in batch.times:
                await self._index(requests)
            elif (checked := await self._validate(batch, requests)) is None:
                return
            else:
                batch = checked
            results = await asyncio.to_thread(Results, path.parent, lease.job.attempt, len(requests))
            with contextlib.closing(results):
                principal = await self._principal(batch)
                work = Work(batch, principal or Principal(), requests, results, self._change)
                if principal is None:
                    work.end("key_revoked")
                elif batch.status == "in_progress" or (batch.status == "finalizing" and not all(results.answered)):
                    # Killed while the files were made, it finds out anew why some have no answer.
                    await self._answer(lease, work)
                elif batch.status == "cancelling":
                    work.end("batch_cancelled")
                await self._finalise(work)

    # --- the input ----------------------------------------------------------------------------------------------

    async def _validate(self, batch: Batch, requests: Input) -> Batch | None:
        """Read the whole input before anything is asked. None when the batch ended with it."""
        operation, principal = ENDPOINTS[batch.endpoint], await self._principal(batch)

        def refuse(model: str) -> None:
            find_route(self._routes, model, operation)
            if principal is not None:
                principal.demand(model, operation)

        inspector = Inspector(batch.endpoint, self._limits, refuse)
        breath = _Breath()
        for number, raw in requests.scan():
            inspector.take(number, raw)
            await breath.take()
        found = inspector.end()
        if found.errors:
            await self._refuse(batch, found)
            return None
        route = self._routes[found.model]
        backend = self._backend_of(route)
        values = {
            "status": "in_progress", "total": found.total, "model": found.model, "backend": backend.name,
            "release": route.release, "estimate": estimate(found, route.price, backend.share), "cost": 0,
        }  # fmt: skip
        kept = await self._change(batch, values, only=("validating",))
        if kept.status == "cancelling":  # asked for meanwhile: what was found is kept all the same
            kept = await self._change(batch, {**values, "status": "cancelling"})
        return kept

    async def _index(self, requests: Input) -> None:
        breath = _Breath()
        for _ in requests.scan():
            await breath.take()

    async def _refuse(self, batch: Batch, found: Inspected, code: str = "", message: str = "") -> None:
        if code:
            found.fail(code, message)
        values = {"status": "failed", "errors": found.errors, "total": found.total, "model": found.model}
        await asyncio.to_thread(self._store.batches.finish, batch, values)

    # --- the answers --------------------------------------------------------------------------------------------

    async def _answer(self, lease: Lease, work: Work) -> None:
        route = self._routes.get(work.batch.model)
        if route is None:  # the definition has changed since
            work.note = f"The model {work.batch.model} is not served any more."
            work.end("model_not_found")
            return
        backend = self._backend_of(route)
        # What the attempts before got done counts now, so that being killed often does not look like getting nowhere.
        tally = work.results.tally
        lease.report(tally.completed + tally.failed, len(work.requests))
        await lease.beat()
        watch = asyncio.create_task(self._watch(lease, work))
        answering = asyncio.ensure_future(backend.answer(work))
        try:
            await asyncio.wait({watch, answering}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                await watch  # it ended only because the batch moved, or the disk is full
            await answering
        except BatchRefused as error:
            work.end("backend_refused")
            work.note = str(error)
        finally:
            for task in (watch, answering):
                task.cancel()
            await asyncio.gather(watch, answering, return_exceptions=True)
            work.results.sync()

    async def _watch(self, lease: Lease, work: Work) -> None:
        """Write how far it is, and see whether it shall end: cancelled, out of time, key revoked."""
        # On the monotonic clock, so that a jump of the wall clock neither ends a running batch nor prolongs it.
        window_s = (work.batch.expires - work.batch.time) / 1e6
        ends = time.monotonic() + min(window_s, max(0.0, (work.batch.expires - now_us()) / 1e6))
        while True:
            results = work.results
            await asyncio.to_thread(results.sync)
            work.batch = await self._change(work.batch, {**figures(work), "note": work.note[:LONGEST_NOTE]})
            done = results.tally.completed + results.tally.failed
            lease.report(done, len(work.requests), work.note)
            if work.batch.status == "cancelling":
                work.end("batch_cancelled")
            elif time.monotonic() >= ends:
                work.end("batch_expired")
            elif (principal := await self._principal(work.batch)) is None:
                work.end("key_revoked")
            else:
                work.principal = principal  # its limits may have been changed
            await asyncio.sleep(min(self._look_s, max(0.01, ends - time.monotonic())))

    # --- the files ----------------------------------------------------------------------------------------------

    async def _finalise(self, work: Work) -> None:
        work.batch = await self._change(work.batch, {"status": "finalizing"}, only=("in_progress",))
        status = {"batch_expired": "expired", "batch_cancelled": "cancelled", "key_revoked": "cancelled"}.get(
            work.reason, "completed"
        )
        await asyncio.to_thread(self._write, work, status)

    def _write(self, work: Work, status: str) -> None:
        batch, folder = work.batch, self._store.batches.folder(work.batch.id)
        words = WORDS.get(work.reason) or work.note or "This request was not executed."

        def missing(number: int) -> bytes:
            return failure(work.requests.read(number).custom_id, work.reason or "not_executed", words)

        paths = folder / "output.jsonl", folder / "errors.jsonl"
        tally, *lines = work.results.write(*paths, missing)
        made: list[StoredFile] = []
        for path, count, kind in zip(paths, lines, ("output", "error"), strict=True):
            if count:
                file = self._file(batch, kind, path.stat().st_size)
                place(path, self._store.files.target(file.id))
                made.append(file)
        names = {file.name.rsplit("_", 1)[-1]: file.id for file in made}
        values: dict[str, Any] = {
            "status": status, "completed": tally.completed, "failed": tally.failed, "cost": tally.cost,
            "input_tokens": tally.input_tokens, "output_tokens": tally.output_tokens,
            "output_file": names.get("output.jsonl", ""), "error_file": names.get("error.jsonl", ""),
            "note": work.note[:LONGEST_NOTE] if work.reason else "",
        }  # fmt: skip
        if self._store.batches.finish(batch, values, made) is None:
            for file in made:
                self._store.files.target(file.id).unlink(missing_ok=True)

    def _file(self, batch: Batch, kind: str, size: int) -> StoredFile:
        now = now_us()
        return StoredFile(
            id=file_id(), time=now, tenant=batch.tenant, subject=batch.subject, usecase=batch.usecase,
            spec_hash=batch.spec_hash, release=batch.release, name=f"{batch.id}_{kind}.jsonl", purpose="batch_output",
            bytes=size, expires=now + batch.keep,
        )  # fmt: skip

    async def _principal(self, batch: Batch) -> Principal | None:
        """On whose behalf it asks now; None when the key is revoked."""
        if batch.key:
            return await asyncio.to_thread(self._holder, batch.key)
        return Principal(tenant=batch.tenant, subject=batch.subject, scopes=frozenset(batch.scopes))

    async def _change(self, batch: Batch, values: dict[str, Any], **only: Any) -> Batch:
        kept = await asyncio.to_thread(self._store.batches.change, batch, values, **only)
        if kept is None:
            raise BatchMoved(batch.id)
        return kept


def holder_of(identifier: str, keys: Sequence[Key], now: int) -> Principal | None:
    """Whom the key with this id stands for among ``keys``: itself, or the one it was rotated to. None if revoked."""
    account = next((key.origin or key.id for key in keys if key.id == identifier), "")
    valid = [key for key in keys if key.revoked is None and (key.expires is None or key.expires > now)]
    same = [key for key in valid if key.id == identifier] or [key for key in valid if (key.origin or key.id) == account]
    return principal_of(same[-1]) if same else None


class _Breath:
    """Lets others run whenever a slice of time is used up."""

    def __init__(self) -> None:
        self._until = time.monotonic() + SLICE_S

    async def take(self) -> None:
        if time.monotonic() > self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + SLICE_S


def figures(work: Work) -> dict[str, Any]:
    """What the row shows of the answers so far."""
    tally = work.results.tally
    return {
        "completed": tally.completed, "failed": tally.failed, "cost": tally.cost,
        "input_tokens": tally.input_tokens, "output_tokens": tally.output_tokens,
    }  # fmt: skip


def estimate(found: Inspected, price: tuple[float, float] | None, share: float) -> dict[str, Any]:
    """Tokens and cost (nano-dollars, None without a price) as told before the start."""
    cost = None if price is None else found.input_tokens * price[0] + found.output_tokens * price[1]
    return {
        "input_tokens": found.input_tokens, "output_tokens": found.output_tokens,
        "cost": None if cost is None else round(cost * share),
    }  # fmt: skip


def file_id() -> str:
    """A fresh id of a file; sorts by time."""
    return "file-" + new_id().replace("-", "")
