"""Back end `provider`: hands the whole batch to the provider's own batches, which cost half.

**At most one batch of theirs for one of ours:** before one is made, the provider is asked whether there is one with our
id among its metadata, so a crash between making and noting pays nothing twice. The custom ids sent are the requests'
numbers: our clients' own stay here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import orjson

from fairlead.batch.results import Answer, failure, success
from fairlead.batch.work import BatchRefused, Price, Work, hide_user
from fairlead.errors import UpstreamRefused
from fairlead.gateway.usage import tokens_of
from fairlead.providers.batches import ProviderBatches

SHARE = 0.5
POLL_S = 15.0
MARK = "fairlead_batch"
_ENDED = ("completed", "failed", "expired", "cancelled")


class Provider:
    """``model`` is the provider's name for it, ``price`` what it costs live; ``secret`` keys the
    stand-ins for users' names.
    """

    name = "provider"
    share = SHARE

    def __init__(
        self,
        provider: ProviderBatches,
        model: str,
        price: tuple[float, float] | None,
        secret: bytes,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._provider = provider
        self._model = model
        self._price = Price(price[0] * SHARE, price[1] * SHARE) if price is not None else None
        self._pseudonyms = secret
        self._poll_s = poll_s

    async def answer(self, work: Work) -> None:
        """See Backend.answer."""
        try:
            theirs = await self._theirs(work)
            theirs = await self._wait(work, theirs["id"])
        except UpstreamRefused as error:
            if error.details.get("upstream_status") in (400, 404, 405, 422):
                raise BatchRefused(detail=str(error)) from error
            raise
        await self._collect(work, theirs)
        if theirs["status"] == "failed":
            raise BatchRefused(detail=f"The provider could not use the batch: {_reasons(theirs)}")
        if theirs["status"] in ("expired", "cancelled"):
            work.end(f"batch_{theirs['status']}")

    async def _theirs(self, work: Work) -> dict[str, Any]:
        """Their batch for ours, made at most once."""
        mark = {MARK: work.batch.id}
        if known := work.batch.upstream.get("batch"):
            return await self._provider.get(known)
        theirs = await self._provider.find(mark) if "file" in work.batch.upstream else None
        if theirs is None:
            path = self._folder(work) / "sent.jsonl"
            await asyncio.to_thread(self._write, work, path)
            file = await self._provider.upload(path, f"{work.batch.id}.jsonl")
            await work.remember(file=file)
            theirs = await self._provider.create(file, work.batch.endpoint, work.batch.window, mark)
        await work.remember(batch=theirs["id"])
        return theirs

    async def _wait(self, work: Work, identifier: str) -> dict[str, Any]:
        asked = False
        while True:
            theirs = await self._provider.get(identifier)
            if theirs.get("status") in _ENDED:
                return theirs
            counts = theirs.get("request_counts") or {}
            work.note = (
                f"{theirs.get('status')} at the provider, {counts.get('completed', 0)} of {counts.get('total', 0)}"
            )
            if work.stop.is_set() and not asked:
                await self._provider.cancel(identifier)
                asked = True
            try:
                async with asyncio.timeout(self._poll_s):
                    await (asyncio.sleep(self._poll_s) if asked else work.stop.wait())
            except TimeoutError:
                continue

    async def _collect(self, work: Work, theirs: dict[str, Any]) -> None:
        """Take their lines into our journal, each once; then delete their files."""
        files = [theirs[name] for name in ("output_file_id", "error_file_id") if theirs.get(name)]
        for file in files:
            path = self._folder(work) / "fetched.jsonl"
            await self._provider.download(file, path)
            await asyncio.to_thread(take_lines, work, path, self._price)
        work.note = ""
        for file in (*files, theirs.get("input_file_id") or ""):
            if file:
                await self._provider.delete(file)

    def _write(self, work: Work, path: Path) -> None:
        with path.open("wb") as target:
            for number in work.left():
                request = work.requests.read(number)
                body = {**hide_user(request.body, work.batch.tenant, self._pseudonyms), "model": self._model}
                line = {"custom_id": str(number), "method": "POST", "url": work.batch.endpoint, "body": body}
                target.write(orjson.dumps(line) + b"\n")

    def _folder(self, work: Work) -> Path:
        return work.requests.path.parent


class _Response(msgspec.Struct):
    status_code: int = 0
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str = ""
    response: _Response | None = None
    error: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    usage: Any = None


def take_lines(work: Work, path: Path, price: Price | None) -> None:
    """Take the lines of an output or error file whose custom ids are our numbers; what is none of ours is passed by."""
    decode, usage_of = msgspec.json.Decoder(_Line).decode, msgspec.json.Decoder(_Body).decode
    with path.open("rb") as lines:
        for raw in lines:
            try:
                line = decode(raw)
                body = usage_of(line.response.body) if line.response and line.response.status_code == 200 else _Body()
            except msgspec.DecodeError:
                continue
            if not line.custom_id.isascii() or not line.custom_id.isdigit() or len(line.custom_id) > 9:
                continue
            number = int(line.custom_id)
            if number < len(work.requests):
                work.results.add(_answer(work, number, line, body.usage, price))


def _answer(work: Work, number: int, line: _Line, usage: Any, price: Price | None) -> Answer:
    """One line of theirs as ours. Counts that are none cost an unknown sum, never less than nothing."""
    custom_id = work.requests.read(number).custom_id
    response = line.response
    if response is None or not response.status_code:
        error = line.error or {}
        code, message = str(error.get("code") or "failed"), str(error.get("message") or "No reason was given.")
        return Answer(number=number, ok=False, line=failure(custom_id, code, message), cost=0)
    told = orjson.Fragment(bytes(response.body))
    if line.error and bytes(response.body) == b"null":  # as vLLM's run-batch tells of a request it refused
        told = orjson.Fragment(orjson.dumps(line.error if "error" in line.error else {"error": line.error}))
    made = success(custom_id, response.status_code, response.request_id or "", told)
    if response.status_code != 200:
        return Answer(number=number, ok=False, line=made, cost=0)
    read, written = tokens_of(usage)
    if isinstance(usage, dict) and usage.get("completion_tokens") is None:
        written = 0  # embeddings have none
    return Answer(
        number=number, ok=True, line=made, input_tokens=read or 0, output_tokens=written or 0,
        cost=_cost(read, written, price),
    )  # fmt: skip


def _cost(read: int | None, written: int | None, price: Price | None) -> int | None:
    """What tokens cost; None where they were not counted, unless they are free."""
    if price is None:
        return None
    if price == Price(0, 0):
        return 0
    return None if read is None or written is None else price.of(read, written)


def _reasons(theirs: dict[str, Any]) -> str:
    errors = (theirs.get("errors") or {}).get("data") or []
    return "; ".join(str(error.get("message")) for error in errors[:3]) or "it gave no reason"
