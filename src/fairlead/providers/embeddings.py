"""Embedding requests of several callers as one request to their server, and its answer taken apart again.

An Upstream around an Upstream. Only requests that differ in nothing but their texts go together. What a server says of
one text must reach nobody else: an answer that does not say plainly which vector is whose is thrown away, and every
request is sent by itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson

from fairlead.errors import UpstreamTimeout
from fairlead.providers.base import Call, Reply, Upstream
from fairlead.providers.deadline import Until
from fairlead.providers.microbatch import MicroBatcher

LONGEST_BYTES: Final = 16_384
"""Texts of a request up to which it goes together with others; it bounds what all of them come to."""
ABOUT_THE_REQUEST: Final = frozenset((400, 404, 409, 413, 415, 422))
"""Statuses that speak of one request's texts, or of too many of them."""
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class BatchedEmbeddings:
    """``upstream``, asked for the embeddings of up to ``max_batch_size`` texts at once."""

    def __init__(self, upstream: Upstream, *, max_batch_size: int, max_queue_delay_s: float = 0.0) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._batcher: MicroBatcher[Call, Reply] = MicroBatcher(
            self._together, max_batch_size=max_batch_size, max_queue_delay_s=max_queue_delay_s
        )

    async def open(self, call: Call) -> Reply:
        """See Upstream.open. What is no embedding of short texts goes as it is."""
        texts = _texts(call)
        if call.operation != "embedding" or not texts or sum(map(_size, texts)) > LONGEST_BYTES:
            return await self._upstream.open(call)
        rest = {name: value for name, value in call.body.items() if name != "input"}
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            with Until(call.deadline):
                key = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
                return await self._batcher.ask(call, size=len(texts), key=key)
        except TimeoutError as error:
            raise UpstreamTimeout(name=self.name, seconds=loop.time() - began) from error

    async def aclose(self) -> None:
        """Close the upstream."""
        await self._upstream.aclose()

    async def _together(self, calls: list[Call]) -> Sequence[Reply | Exception]:
        if len(calls) == 1:
            return [await self._upstream.open(calls[0])]
        texts = [_texts(call) for call in calls]
        joint = msgspec.structs.replace(
            calls[0],
            body={**calls[0].body, "input": list(itertools.chain.from_iterable(texts))},
            deadline=max(call.deadline for call in calls),
        )
        reply = await self._upstream.open(joint)
        await reply.aclose()
        if reply.status == 200:
            answers = take_apart(reply.body or b"", texts)
            if answers is not None:
                return [Reply(200, body=answer, headers=reply.headers) for answer in answers]
        elif reply.status not in ABOUT_THE_REQUEST:
            return [Reply(reply.status, body=reply.body, headers=reply.headers) for _ in calls]
        found = await asyncio.gather(*map(self._upstream.open, calls), return_exceptions=True)
        return [each if isinstance(each, Reply) else _error(each) for each in found]


def take_apart(body: bytes, texts: Sequence[Sequence[str]]) -> list[bytes] | None:
    """The answer to all ``texts`` as one to each sequence of them; None where it does not say which vector is whose.

    Nothing is read that need not be: the vectors' digits pass as they are. The tokens that were counted are shared out
    by the length of the texts.
    """
    counts = [len(each) for each in texts]
    try:
        answer = _object.decode(body)
        items = _items.decode(answer["data"])
        places = [_whole(item.get("index", place)) for place, item in enumerate(items)]
    except (KeyError, msgspec.DecodeError):
        return None
    if sorted(places) != list(range(sum(counts))):
        return None
    ordered = iter([item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0])])
    shares = _shares(answer.pop("usage", None), [sum(map(_size, each)) for each in texts])
    answers = []
    for count, tokens in zip(counts, shares, strict=True):
        own = [{**item, "index": place} for place, item in enumerate(itertools.islice(ordered, count))]
        usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if tokens else {}
        answers.append(msgspec.json.encode({**answer, "data": own, **usage}))
    return answers


def _shares(said: msgspec.Raw | None, lengths: Sequence[int]) -> list[int]:
    """The tokens a server counted, shared out by ``lengths``, at least one each; all 0 where it said none."""
    try:
        usage: Any = msgspec.json.decode(said) if said is not None else None
    except msgspec.DecodeError:
        usage = None
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    spare = tokens - len(lengths) if type(tokens) is int else -1
    if spare < 0:
        return [0] * len(lengths)
    total = sum(lengths)
    marks = [spare * upto // total for upto in itertools.accumulate(lengths, initial=0)]
    return [1 + after - before for before, after in itertools.pairwise(marks)]


def _texts(call: Call) -> list[str]:
    """The texts of a call; none where it holds tokens, or nothing that can be embedded."""
    asked = call.body.get("input")
    texts = [asked] if isinstance(asked, str) else asked
    return texts if isinstance(texts, list) and all(isinstance(text, str) and text for text in texts) else []


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _whole(value: msgspec.Raw | int) -> int:
    """A whole number as it stands in an answer. Raises DecodeError."""
    return msgspec.json.decode(value, type=int) if isinstance(value, msgspec.Raw) else value


def _error(found: BaseException) -> Exception:
    """What a caller is told; a cancellation is nobody's answer."""
    if isinstance(found, Exception):
        return found
    raise found
