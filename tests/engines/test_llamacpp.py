"""The real llama.cpp with a real, tiny model: one process a test, loopback HTTP, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from fairlead.engines import llamacpp, registry
from fairlead.engines.llamacpp import LlamaCpp, cgroup_quota, default_threads, usable_cores
from fairlead.engines.supervisor import Limits
from fairlead.errors import (
    EngineFailed,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
    WeightsDamaged,
    WeightsMissing,
)
from fairlead.providers.base import Call, CallContext, Operation, Reply
from fairlead.providers.sse import payload, split
from tests.engines.test_supervisor import alive, exists, until
from tests.engines.tiny_gguf import write_adapter, write_model

pytestmark = pytest.mark.engine
LIMITS = Limits(start_s=60, backoff_first_s=0.05, backoff_max_s=0.2, probe_every_s=0.1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "tiny.gguf", context=8192)


@pytest.fixture
async def engine(weights: Path, tmp_path: Path) -> AsyncIterator[LlamaCpp]:
    engine = LlamaCpp("tiny", weights, log_dir=tmp_path, limits=LIMITS, context=8192, drain_s=0.2)
    await engine.start()
    yield engine
    await engine.stop()


def call(stream: bool = False, seconds: float = 60, operation: Operation = "chat", **body: Any) -> Call:
    if operation == "chat":
        body = {
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 8,
            "temperature": 0,
            "ignore_eos": True,
            **body,
        }
    return Call(
        operation=operation, body={**body, "stream": stream}, stream=stream,
        deadline=asyncio.get_running_loop().time() + seconds, context=CallContext(),
    )  # fmt: skip


async def answer(engine: LlamaCpp, **body: Any) -> dict[str, Any]:
    reply = await engine.upstream().open(call(**body))
    await reply.aclose()
    assert reply.status == 200, reply.body
    assert reply.body is not None
    result: dict[str, Any] = orjson.loads(reply.body)
    return result


async def read(reply: Reply) -> str:
    """The text of a stream."""
    assert reply.chunks is not None
    data = b"".join([chunk async for chunk in reply.chunks])
    await reply.aclose()
    events = [payload(event) for event in split(data)]
    assert events[-1] == b"[DONE]"
    deltas = [orjson.loads(event)["choices"] for event in events[:-1]]
    return "".join(choice["delta"].get("content") or "" for choices in deltas for choice in choices)


def changed(weights: Path, folder: Path, change: Callable[[bytes], bytes]) -> Path:
    path = folder / "changed.gguf"
    path.write_bytes(change(weights.read_bytes()))
    return path


async def test_answers_streams_and_stops(engine: LlamaCpp) -> None:
    whole = await answer(engine, max_tokens=5)
    assert whole["usage"]["completion_tokens"] == 5
    assert "tiny.gguf" not in json.dumps(whole)
    streamed = await read(await engine.upstream().open(call(stream=True, max_tokens=5)))
    assert streamed == whole["choices"][0]["message"]["content"]
    pid = engine.health().pid
    assert pid is not None
    await engine.stop()
    assert not exists(pid)
    assert engine.health().state == "stopped"
    with pytest.raises(UpstreamUnreachable, match="is stopped"):
        await engine.upstream().open(call())
    await engine.start()
    assert (await answer(engine))["usage"]["completion_tokens"] == 8


async def test_tools_logprobs_and_errors_pass_through(engine: LlamaCpp) -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    assert (await answer(engine, tools=[tool]))["choices"]
    assert (await answer(engine, logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]["content"]
    reply = await engine.upstream().open(call(max_tokens="many"))
    assert reply.status in (400, 500)
    assert b"error" in (reply.body or b"")


async def test_only_loopback_and_only_with_the_key(engine: LlamaCpp) -> None:
    address = engine._supervisor.address
    assert address.startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"authorization": "Bearer guess"}):
            async with session.post(f"{address}/v1/chat/completions", json={"messages": []}, headers=headers) as reply:
                assert reply.status == 401
        for path in ("/slots", "/props", "/tools", "/"):
            async with session.get(address + path) as reply:
                assert reply.status in (401, 403, 404, 501)
    process = Path(f"/proc/{engine.health().pid}")
    visible = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    assert engine._key.encode() not in visible


async def test_sixteen_streams_at_once(engine: LlamaCpp) -> None:
    async def one(seed: int) -> int:
        return len(await read(await engine.upstream().open(call(stream=True, max_tokens=40, seed=seed))))

    lengths = await asyncio.gather(*(one(seed) for seed in range(16)))
    assert all(length > 10 for length in lengths)
    assert engine.health().restarts == 0


async def test_killed_in_mid_stream_it_comes_back(engine: LlamaCpp) -> None:
    reply = await engine.upstream().open(call(stream=True, max_tokens=8000))
    assert reply.chunks is not None
    assert await anext(reply.chunks)
    pid = engine.health().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(UpstreamBroken):
        async for _ in reply.chunks:
            pass
    await reply.aclose()
    await until(lambda: engine.health().state == "restarting")
    with pytest.raises(UpstreamUnreachable, match="SIGKILL"):
        await engine.upstream().open(call(seconds=0))
    # Others wait for the restart; a loaded machine may need longer for it than they do.
    with contextlib.suppress(UpstreamUnreachable):
        await engine.upstream().open(call())
    await until(lambda: engine.health().state == "ready")
    assert (await answer(engine))["usage"]["completion_tokens"] == 8
    assert engine.health().restarts == 1
    assert not exists(pid)


async def test_a_stream_left_early_frees_its_place(weights: Path, tmp_path: Path) -> None:
    engine = LlamaCpp("one", weights, log_dir=tmp_path, limits=LIMITS, slots=1, context=2048)
    await engine.start()
    try:
        at_once = 1 + llamacpp.SPARE
        replies = [await engine.upstream().open(call(stream=True, max_tokens=2000)) for _ in range(1)]
        waiting = [
            asyncio.create_task(engine.upstream().open(call(max_tokens=2000, seconds=0.4))) for _ in range(at_once)
        ]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(result, UpstreamTimeout) for result in results)
        for reply in replies:
            await reply.aclose()
            await reply.aclose()
        assert (await answer(engine, seconds=30))["usage"]["completion_tokens"] == 8
        assert engine._upstream._running == 0
    finally:
        await engine.stop()


async def test_stop_lets_a_running_answer_finish(weights: Path, tmp_path: Path) -> None:
    engine = LlamaCpp("tiny", weights, log_dir=tmp_path, limits=LIMITS, context=1024, drain_s=30)
    await engine.start()
    reply = await engine.upstream().open(call(stream=True, max_tokens=200))
    reading = asyncio.create_task(read(reply))
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0)
    with pytest.raises(UpstreamUnreachable, match="stopping"):
        await engine.upstream().open(call())
    assert len(await reading) > 50
    await stopping
    assert engine.health().state == "stopped"


async def test_adapters_are_listed_and_scaled_by_each_request(weights: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter.gguf")
    engine = LlamaCpp("tuned", weights, log_dir=tmp_path, limits=LIMITS, adapters=[adapter])
    await engine.start()
    try:
        headers = {"authorization": f"Bearer {engine._key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(engine._supervisor.address + "/lora-adapters") as reply,
        ):
            listed = await reply.json()
        assert [(item["id"], Path(item["path"]).name) for item in listed] == [(0, "adapter.gguf")]

        async def said(scale: float | None) -> str:
            lora = {} if scale is None else {"lora": [{"id": 0, "scale": scale}]}
            result = await answer(engine, max_tokens=12, **lora)
            return str(result["choices"][0]["message"]["content"])

        plain, off, on = await asyncio.gather(said(None), said(0.0), said(1.0))
        assert plain == off != on
    finally:
        await engine.stop()


async def test_embeddings(weights: Path, tmp_path: Path) -> None:
    engine = LlamaCpp("embedder", weights, log_dir=tmp_path, limits=LIMITS, embeddings=True)
    await engine.start()
    try:
        result = await answer(engine, operation="embedding", input=["hello", "world"])
        assert [len(item["embedding"]) for item in result["data"]] == [64, 64]
        long = await answer(engine, operation="embedding", input="a b " * 480)
        assert 1024 < long["usage"]["prompt_tokens"] <= 2048, "more than llama.cpp reads at once by itself"
        for asked, code in (({"input": "a b " * 2000}, b"context_length_exceeded"),
                            ({"input": "a", "dimensions": 8}, b"unsupported_parameter")):  # fmt: skip
            reply = await engine.upstream().open(call(operation="embedding", **asked))
            assert (reply.status, code in (reply.body or b"")) == (400, True), reply.body
    finally:
        await engine.stop()


async def test_one_vector_for_a_text_as_the_file_says_or_else_their_mean(weights: Path, tmp_path: Path) -> None:
    found = []
    for number, pooling in enumerate((None, 0, 1, 3)):
        path = weights if pooling is None else write_model(tmp_path / f"{number}.gguf", context=8192, pooling=pooling)
        engine = LlamaCpp(f"embedder{number}", path, log_dir=tmp_path, limits=LIMITS, embeddings=True)
        await engine.start()
        try:
            found.append((await answer(engine, operation="embedding", input="hello"))["data"][0]["embedding"])
        finally:
            await engine.stop()
    said_nothing, none, mean, last = found
    assert said_nothing == pytest.approx(mean, abs=1e-4)
    assert none == pytest.approx(mean, abs=1e-4)
    assert last != pytest.approx(mean, abs=1e-2)
    ranker = write_model(tmp_path / "ranker.gguf", pooling=4)
    with pytest.raises(EngineFailed, match=r"ranker\.gguf ranks texts"):
        await LlamaCpp("ranker", ranker, log_dir=tmp_path, embeddings=True).start()


async def test_weights_that_are_missing_or_cut(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"absent\.gguf"):
        await LlamaCpp("x", tmp_path / "absent.gguf", log_dir=tmp_path).start()
    cut = changed(weights, tmp_path, lambda data: data[:-1])
    engine = LlamaCpp("x", cut, log_dir=tmp_path)
    with pytest.raises(WeightsDamaged, match="cut off"):
        await engine.start()
    assert engine.health().state == "stopped"
    with pytest.raises(WeightsDamaged, match="expected a adapter"):
        await LlamaCpp("x", weights, log_dir=tmp_path, adapters=[weights]).start()
    await engine.stop()


async def test_weights_whole_in_form_but_of_no_use(weights: Path, tmp_path: Path) -> None:
    """The header is right and the file long enough; only llama.cpp can tell that it knows no such architecture."""
    name = b"\x05\0\0\0\0\0\0\0llam"
    odd = changed(weights, tmp_path, lambda data: data.replace(name + b"a", name + b"o", 1))
    engine = LlamaCpp("odd", odd, log_dir=tmp_path, limits=LIMITS)
    with pytest.raises(EngineFailed, match="llamo"):
        await engine.start()
    assert engine.health().state == "failed"
    await engine.stop()


async def test_weights_that_vanish_are_said_so_after_the_restarts(weights: Path, tmp_path: Path) -> None:
    copy = changed(weights, tmp_path, lambda data: data)
    limits = Limits(backoff_first_s=0.01, backoff_max_s=0.02, restarts=2, probe_every_s=0.1)
    engine = LlamaCpp("copy", copy, log_dir=tmp_path, limits=limits)
    await engine.start()
    copy.unlink()
    pid = engine.health().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: engine.health().state == "failed")
    assert "given up after 2 restarts" in engine.health().detail
    with pytest.raises(UpstreamUnreachable):
        await engine.upstream().open(call())
    await engine.stop()


async def test_a_taken_port_is_reported_and_the_child_leaves(weights: Path, tmp_path: Path) -> None:
    """Does not happen as we run it, since the kernel chooses the port; the child must still not pretend."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine = LlamaCpp("tiny", weights, log_dir=tmp_path, limits=LIMITS)
        launch = engine._launch()
        ours, theirs = socket.socketpair()
        child = await asyncio.create_subprocess_exec(
            *launch.argv, stdin=theirs.fileno(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        theirs.close()
        config = {**launch.config, "port": taken.getsockname()[1], "parent": os.getpid()}
        ours.sendall(json.dumps(config).encode() + b"\n")
        output, _ = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 1, output
        assert "error" in json.loads(ours.recv(65_536))
        ours.close()


async def test_the_context_is_at_most_what_the_model_was_made_for(weights: Path, tmp_path: Path) -> None:
    engine = LlamaCpp("long", weights, log_dir=tmp_path, limits=LIMITS, context=100_000, slots=2)
    await engine.start()
    try:
        reply = await engine.upstream().open(call(messages=[{"role": "user", "content": "a b " * 9000}]))
        assert (reply.status, b"exceed" in (reply.body or b"")) == (400, True)
        assert engine._launch().config["context"] == 8192
    finally:
        await engine.stop()


async def test_the_model_that_ships(tmp_path: Path) -> None:
    path = Path(llamacpp.__file__).with_name("weights") / "mini.gguf"
    engine = LlamaCpp("mini", path, log_dir=tmp_path, limits=LIMITS)
    await engine.start()
    try:
        result = await answer(engine, ignore_eos=False, max_tokens=60)
        assert result["choices"][0]["finish_reason"] in ("stop", "length")
        assert result["choices"][0]["message"]["content"].strip()
    finally:
        await engine.stop()


PARENT = """
import asyncio, sys
from pathlib import Path
from fairlead.engines.llamacpp import LlamaCpp

async def main():
    engine = LlamaCpp("orphan", Path(sys.argv[1]), log_dir=Path(sys.argv[2]))
    await engine.start()
    print(engine.health().pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_no_orphan_after_the_parent_is_killed(weights: Path, tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(weights), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    assert alive(pid)
    parent.kill()
    await parent.communicate()
    await until(lambda: not alive(pid))


def test_the_registry_knows_it() -> None:
    assert registry.load("llamacpp") is LlamaCpp
    assert {"extractive", "llamacpp", "embed"} <= set(registry.names())


def test_cores_follow_affinity_and_quota(tmp_path: Path) -> None:
    assert 1 <= default_threads() <= max(1, usable_cores() - 1) <= len(os.sched_getaffinity(0))
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("garbage")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    assert cgroup_quota(tmp_path) == 2


async def test_before_the_start_it_cannot_be_reached(weights: Path, tmp_path: Path) -> None:
    engine = LlamaCpp("tiny", weights, log_dir=tmp_path)
    with pytest.raises(UpstreamUnreachable, match="it is stopped"):
        await engine.upstream().open(call())
    await engine.stop()


def test_a_name_is_no_path(weights: Path, tmp_path: Path) -> None:
    engine = LlamaCpp("../../etc/x", weights, log_dir=tmp_path)
    assert engine._supervisor.log.path.parent == tmp_path
