"""Engines that are unloaded when idle, and engines replaced while they serve: with the real llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from fairlead.engines.llamacpp import LlamaCpp
from fairlead.engines.ondemand import OnDemand
from fairlead.engines.swappable import Swappable
from fairlead.errors import UpstreamTimeout, UpstreamUnreachable, WeightsMissing
from fairlead.providers.base import Upstream
from tests.engines.test_llamacpp import LIMITS, call, read
from tests.engines.test_supervisor import exists, until
from tests.engines.tiny_gguf import write_adapter, write_model

pytestmark = pytest.mark.engine
IDLE_S = 1.5


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "tiny.gguf", context=8192)


def llamacpp(weights: Path, folder: Path, *adapters: Path) -> LlamaCpp:
    return LlamaCpp("tiny", weights, log_dir=folder, limits=LIMITS, context=1024, drain_s=20.0, adapters=adapters)


@pytest.fixture
async def engine(weights: Path, tmp_path: Path) -> AsyncIterator[OnDemand]:
    engine = OnDemand(llamacpp(weights, tmp_path), IDLE_S)
    await engine.start()
    yield engine
    await engine.stop()


async def text(upstream: Upstream, **body: object) -> str:
    reply = await upstream.open(call(**body))  # type: ignore[arg-type]
    await reply.aclose()
    assert reply.status == 200, reply.body
    content: str = orjson.loads(reply.body or b"")["choices"][0]["message"]["content"]
    return content


async def test_it_is_unloaded_when_idle_and_loaded_by_the_next_call(engine: OnDemand) -> None:
    pid = engine.health().pid
    assert pid is not None
    said = await text(engine.upstream())
    await until(lambda: engine.health().state == "asleep" and not exists(pid))
    assert "the next call loads it" in engine.health().detail
    together = await asyncio.gather(*(text(engine.upstream()) for _ in range(4)))
    assert together == [said] * 4
    assert engine.wakes == 1
    assert engine.health().state == "ready"


async def test_a_long_stream_keeps_it_loaded(engine: OnDemand) -> None:
    reply = await engine.upstream().open(call(stream=True, max_tokens=400))
    assert reply.chunks is not None
    begun = await anext(aiter(reply.chunks))
    assert begun
    await asyncio.sleep(IDLE_S * 2)
    assert engine.health().state == "ready"
    await reply.aclose()
    await until(lambda: engine.health().state == "asleep")


async def test_a_caller_that_cannot_wait_does_not_stop_the_loading(engine: OnDemand) -> None:
    await until(lambda: engine.health().state == "asleep")
    with pytest.raises(UpstreamTimeout):
        await engine.upstream().open(call(seconds=0.02))
    assert await text(engine.upstream())
    assert engine.wakes == 1


async def test_stopped_it_stays_stopped(engine: OnDemand) -> None:
    await until(lambda: engine.health().state == "asleep")
    await engine.stop()
    with pytest.raises(UpstreamUnreachable):
        await engine.upstream().open(call())
    assert engine.health().state == "stopped"


async def test_weights_that_have_gone_are_told(tmp_path: Path) -> None:
    path = write_model(tmp_path / "moved.gguf", context=8192)
    engine = OnDemand(llamacpp(path, tmp_path), IDLE_S)
    await engine.start()
    await until(lambda: engine.health().state == "asleep")
    path.unlink()
    with pytest.raises(UpstreamUnreachable, match="does not exist"):
        await engine.upstream().open(call())
    await engine.stop()


async def test_an_engine_is_swapped_under_load_and_no_call_is_lost(weights: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter.gguf")
    engine = Swappable(llamacpp(weights, tmp_path))
    await engine.start()
    old = engine.health().pid
    answered: list[str] = []
    done = asyncio.Event()

    async def keep_asking() -> None:
        while not done.is_set():
            answered.append(await text(engine.upstream()))

    stream = await engine.upstream().open(call(stream=True, max_tokens=300))
    asking = [asyncio.create_task(keep_asking()) for _ in range(3)]
    await until(lambda: len(answered) > 3)
    swapping = asyncio.create_task(engine.swap(llamacpp(weights, tmp_path, adapter)))
    streamed = await read(stream)  # begun on the old one, ended on the old one
    await swapping
    before = len(answered)
    await until(lambda: len(answered) > before + 3)
    done.set()
    await asyncio.gather(*asking)
    assert len(streamed) > 100
    assert set(answered) == {answered[0]}
    assert engine.health().pid != old
    assert old is not None
    assert not exists(old)
    changed = await text(engine.upstream(), lora=[{"id": 0, "scale": 1.0}])
    assert changed != answered[0]
    await engine.stop()


async def test_a_swap_that_fails_changes_nothing(weights: Path, tmp_path: Path) -> None:
    engine = Swappable(llamacpp(weights, tmp_path))
    await engine.start()
    pid = engine.health().pid
    with pytest.raises(WeightsMissing):
        await engine.swap(llamacpp(weights, tmp_path, tmp_path / "none.gguf"))
    assert await text(engine.upstream())
    assert engine.health().pid == pid
    await engine.stop()


async def test_a_prompt_read_under_an_adapter_is_not_taken_for_one_read_without(weights: Path, tmp_path: Path) -> None:
    """llama.cpp itself takes it so, alone and where requests share a batch."""
    engine = llamacpp(weights, tmp_path, write_adapter(tmp_path / "adapter.gguf"))
    await engine.start()
    under = {"lora": [{"id": 0, "scale": 1.0}]}
    plain, adapted = await text(engine.upstream()), await text(engine.upstream(), **under)
    assert plain != adapted
    for more in ({}, {"cache_prompt": True}):
        for _ in range(3):
            assert await text(engine.upstream(), **under, **more) == adapted
            assert await text(engine.upstream(), **more) == plain
        mixed = await asyncio.gather(
            *(text(engine.upstream(), **(under if number % 2 else {}), **more) for number in range(12))
        )
        assert mixed == [plain, adapted] * 6
    await engine.stop()
