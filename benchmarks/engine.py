"""What the embedded engine costs: start, memory, tokens a second and CPU a token, alone and through its upstream.

Alone is a bare HTTP client that reads the engine's stream and does nothing else; through is the upstream the gateway
calls. Rounds of the two alternate, so that what else runs on the machine hits both. CPU is counted from the kernel's
figures of both processes, which a busy machine disturbs less than the clock.

    python -m benchmarks.engine [model.gguf]        # default: the model that ships
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
import orjson

from benchmarks.report import Report
from fairlead.engines.gguf import read_header
from fairlead.engines.llamacpp import LlamaCpp, default_threads
from fairlead.providers.base import Call, CallContext

MODEL = Path(__file__).parent.parent / "src" / "fairlead" / "engines" / "weights" / "mini.gguf"
STARTS = 7
ROUNDS = 7
STREAMS = 16
TOKENS = 64
IDLE_S = 10.0
Client = Callable[[int], AsyncIterator[bytes]]


class Round(msgspec.Struct, frozen=True):
    """One round: tokens made, seconds on the clock, CPU seconds of the engine and of us, seconds to first tokens."""

    tokens: int
    seconds: float
    engine_cpu: float
    our_cpu: float
    first: list[float]


def body(seed: int) -> dict[str, object]:
    """A request whose prompt no other shares beyond the template, so that no cache answers it."""
    return {
        "messages": [{"role": "user", "content": f"{seed}: where is my order, and when can I send it back?"}],
        "max_tokens": TOKENS,
        "temperature": 0.7,
        "seed": seed,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def child_cpu(pid: int) -> float:
    """CPU seconds a process has used, threads that ended included, to the nanosecond (Linux: clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


def resident_mb(pid: int) -> float:
    """Memory a process holds, its files mapped included, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def bare_client(session: aiohttp.ClientSession, address: str, key: str) -> Client:
    """Reads the engine's stream with nothing between."""

    async def stream(seed: int) -> AsyncIterator[bytes]:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        url = f"{address}/v1/chat/completions"
        async with session.post(url, data=orjson.dumps(body(seed)), headers=headers) as response:
            response.raise_for_status()
            while chunk := await response.content.readany():
                yield chunk

    return stream


def upstream_client(engine: LlamaCpp) -> Client:
    """Reads it as the gateway does."""

    async def stream(seed: int) -> AsyncIterator[bytes]:
        deadline = asyncio.get_running_loop().time() + 600
        call = Call(operation="chat", body=body(seed), stream=True, deadline=deadline, context=CallContext())
        reply = await engine.upstream().open(call)
        try:
            assert reply.status == 200, reply.body
            assert reply.chunks is not None
            async for chunk in reply.chunks:
                yield chunk
        finally:
            await reply.aclose()

    return stream


async def one(client: Client, seed: int) -> tuple[int, float]:
    """Tokens of one stream and the seconds to its first."""
    began = time.perf_counter()
    first = 0.0
    data = b""
    async for chunk in client(seed):
        first = first or time.perf_counter() - began
        data += chunk
    usage = [event for event in data.split(b"\n\n") if b'"usage"' in event and b'"completion_tokens"' in event]
    return int(orjson.loads(usage[-1].removeprefix(b"data: "))["usage"]["completion_tokens"]), first


async def measure(client: Client, pid: int, streams: int, seed: int) -> Round:
    """``streams`` at once, once."""
    engine_before, ours_before, began = child_cpu(pid), time.process_time(), time.perf_counter()
    results = await asyncio.gather(*(one(client, seed + number) for number in range(streams)))
    return Round(
        sum(tokens for tokens, _ in results),
        time.perf_counter() - began,
        child_cpu(pid) - engine_before,
        time.process_time() - ours_before,
        [first for _, first in results],
    )


async def time_starts(report: Report, make: Callable[[], LlamaCpp]) -> None:
    """From nothing to ready, and the memory held then."""
    seconds, memory = [], []
    for _ in range(STARTS):
        engine = make()
        began = time.perf_counter()
        await engine.start()
        seconds.append(time.perf_counter() - began)
        memory.append(resident_mb(engine.health().pid or 0))
        await engine.stop()
    report.add(
        "start to ready", statistics.median(seconds), "s", n=STARTS, low=min(seconds), high=max(seconds), target="<= 4"
    )
    report.add("resident when ready", statistics.median(memory), "MB", n=STARTS, low=min(memory), high=max(memory))


async def compare(report: Report, engine: LlamaCpp) -> None:
    """Rounds of alone and through, in turn, with one stream and with sixteen."""
    pid = engine.health().pid
    assert pid is not None
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    # A keep-alive connection that the engine closes would end a round of the bare client; the upstream tries again.
    headers = {"connection": "close"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        address, key = engine._supervisor.address, engine._key  # noqa: SLF001 - past the upstream, which is the point
        alone, through = bare_client(session, address, key), upstream_client(engine)
        seed = 0
        for streams in (1, STREAMS):
            rounds: dict[str, list[Round]] = {"alone": [], "through": []}
            for number in range(ROUNDS + 1):
                order: list[tuple[str, Client]] = [("alone", alone), ("through", through)]
                for name, client in order if number % 2 else order[::-1]:
                    seed += 1000
                    result = await measure(client, pid, streams, seed)
                    if number:  # the first round warms up
                        rounds[name].append(result)
            tell(report, streams, rounds["alone"], rounds["through"])
    report.add("resident after the load", resident_mb(pid), "MB")
    before = child_cpu(pid)
    await asyncio.sleep(IDLE_S)
    report.add("idle", (child_cpu(pid) - before) / IDLE_S * 100, "% of a core")


async def ask(session: aiohttp.ClientSession, engine: LlamaCpp, asked: dict[str, object]) -> tuple[int, int]:
    """Tokens (read, written) of one answer in one piece."""
    request = {name: value for name, value in asked.items() if not name.startswith("stream")}
    url, headers = f"{engine._supervisor.address}/v1/chat/completions", {"authorization": f"Bearer {engine._key}"}  # noqa: SLF001
    async with session.post(url, json=request, headers=headers) as response:
        response.raise_for_status()
        usage = (await response.json())["usage"]
    return int(usage["prompt_tokens"]), int(usage["completion_tokens"])


async def batch(report: Report, make: Callable[[int], LlamaCpp]) -> None:
    """Sixteen answers at once in as many slots against one after the other, and what a token costs in a long prompt.

    A prompt is read in batches of hundreds, so its cost is the least a token can cost, however many are made at once.
    """
    costs: dict[int, list[float]] = {1: [], STREAMS: []}
    reading = []
    engines = {slots: make(slots) for slots in costs}
    async with aiohttp.ClientSession(headers={"connection": "close"}) as session:
        for engine in engines.values():
            await engine.start()
        try:
            for number in range(ROUNDS + 1):
                for slots, engine in engines.items():
                    pid = engine.health().pid or 0
                    before = child_cpu(pid)
                    seeds = range(number * 100, number * 100 + slots)
                    answers = [ask(session, engine, body(seed)) for seed in seeds]
                    made = sum(written for _, written in await asyncio.gather(*answers))
                    if number:
                        costs[slots].append((child_cpu(pid) - before) / made * 1e6)
                pid = engines[1].health().pid or 0
                words = " ".join(f"{number} word {place} of a long question" for place in range(90))
                before = child_cpu(pid)
                question = {"messages": [{"role": "user", "content": words}], "max_tokens": 1}
                read, _ = await ask(session, engines[1], {**body(number), **question})
                if number:
                    reading.append((child_cpu(pid) - before) / read * 1e6)
        finally:
            for engine in engines.values():
                await engine.stop()
    for slots, values in costs.items():
        name = "one after the other" if slots == 1 else f"{slots} at once in {slots} slots"
        report.add(f"{name}: engine", statistics.median(values), "CPU µs a token", n=len(values), low=min(values),
                   high=max(values))  # fmt: skip
    report.add("a token of a long prompt: engine", statistics.median(reading), "CPU µs a token", n=len(reading),
               low=min(reading), high=max(reading))  # fmt: skip
    gains = [a / b for a, b in zip(costs[1], costs[STREAMS], strict=True)]
    report.add(f"{STREAMS} at once: tokens per CPU second against one after the other", statistics.median(gains),
               "times", n=len(gains), low=min(gains), high=max(gains), target=">= 4")  # fmt: skip
    bounds = [a / b for a, b in zip(costs[1], reading, strict=True)]
    report.add("the most that could be, were each token as cheap as in a long prompt", statistics.median(bounds),
               "times", n=len(bounds), low=min(bounds), high=max(bounds))  # fmt: skip


def tell(report: Report, streams: int, alone: list[Round], through: list[Round]) -> None:
    """The figures of one number of streams."""
    label = f"{streams} stream{'s' if streams > 1 else ''}"
    for name, rounds in (("alone", alone), ("through the upstream", through)):
        speeds = [one.tokens / one.seconds for one in rounds]
        report.add(
            f"{label}, {name}", statistics.median(speeds), "tokens/s", n=len(speeds), low=min(speeds), high=max(speeds)
        )
        firsts = [first * 1000 for one in rounds for first in one.first]
        report.add(f"{label}, {name}, to the first token", statistics.median(firsts), "ms", n=len(firsts))
        costs = [one.engine_cpu / one.tokens * 1e6 for one in rounds]
        report.add(f"{label}, {name}, engine", statistics.median(costs), "CPU µs a token", n=len(costs))
        ours = [one.our_cpu / one.tokens * 1e6 for one in rounds]
        report.add(f"{label}, {name}, client", statistics.median(ours), "CPU µs a token", n=len(ours))
    pairs = [b.tokens / b.seconds / (a.tokens / a.seconds) for a, b in zip(alone, through, strict=True)]
    report.add(
        f"{label}: tokens/s through against alone", statistics.median(pairs), "ratio", n=len(pairs), low=min(pairs),
        high=max(pairs),
    )  # fmt: skip
    pairs = [efficiency(b) / efficiency(a) for a, b in zip(alone, through, strict=True)]
    report.add(
        f"{label}: tokens per CPU second through against alone", statistics.median(pairs), "ratio", n=len(pairs),
        low=min(pairs), high=max(pairs), target=">= 0.95" if streams > 1 else "",
    )  # fmt: skip


def efficiency(one: Round) -> float:
    """Tokens per CPU second of engine and client together."""
    return one.tokens / (one.engine_cpu + one.our_cpu)


async def run(model: Path) -> int:
    """Measure ``model``."""
    header = read_header(model)
    note = (
        f"{model.name}, {header.size / 1e6:.1f} MB, {default_threads()} engine thread(s), 4 slots, {TOKENS} tokens a "
        f"stream. Client and engine share {os.cpu_count()} cores; with other work on them (see load) only the CPU "
        f"figures compare."
    )
    report = Report("engine", note=note)
    with tempfile.TemporaryDirectory() as folder:

        def make() -> LlamaCpp:
            return LlamaCpp("bench", model, log_dir=Path(folder), context=min(header.context or 1024, 1024))

        await time_starts(report, make)
        engine = make()
        await engine.start()
        try:
            await compare(report, engine)
        finally:
            await engine.stop()

        def make_with(slots: int) -> LlamaCpp:
            context = min(header.context or 1024, 1024)
            return LlamaCpp(f"bench-{slots}", model, log_dir=Path(folder), context=context, slots=slots)

        await batch(report, make_with)
    return report.finish()


def main() -> int:
    """The command; exit status 1 when a target is missed or there is no model."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL
    if not model.is_file():
        print(f"There is no model at {model}: give the path of a GGUF file.")
        return 1
    return asyncio.run(run(model))


if __name__ == "__main__":
    sys.exit(main())
