"""Choosing: how few calls a race takes, how seldom it errs, and what the runner itself costs beside promptfoo's.

    make bench NAME=select        # three minutes; with npm at hand promptfoo runs beside it on the same samples

Simulations have a known truth and a fixed seed. The runner asks scripted models through the real gateway, so its figure
includes the gateway's. promptfoo is installed into a temporary folder and asks a scripted server over HTTP, as it
cannot be asked in process; Fairlead asks the very same server in that comparison.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.report import Report
from fairlead.evaluate.candidates import Candidate, through_gateway
from fairlead.evaluate.numbers import Numbers
from fairlead.evaluate.runner import Runner
from fairlead.evaluate.scorers import make_scorer
from fairlead.gateway import Gateway, Identity, Route
from fairlead.providers.base import Upstream
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Key, Run, Sample, new_id, now_us
from fairlead.select import race
from fairlead.settings import Settings
from fairlead.spec import Variant
from fairlead.spec.power import wilson
from fairlead.store import Store

TRUE = np.array([0.86, 0.85, 0.84, 0.80, 0.77, 0.74, 0.70, 0.65])
APART = np.linspace(0.86, 0.65, 8)
SAMPLES, RACES, STREAMS = 1_000, 400, 1_000
LOOKS = range(25, SAMPLES + 1, 25)
RULES = race.Rules()
CANDIDATES, CONCURRENCY = 8, 16
PROMPTFOO = "promptfoo@0.123.1"
NODE = "node@22"
"""The release of Node that this promptfoo wants, from the same registry; what the machine has may be older."""


def outcomes(chance: np.random.Generator, truths: Numbers, shared: float) -> Numbers:
    """Right or wrong, shape (candidates, samples); ``shared`` of what makes a sample hard is common to all."""
    bars = np.array([NormalDist().inv_cdf(share) for share in truths])
    ease = np.sqrt(shared) * chance.standard_normal(SAMPLES)
    own = np.sqrt(1 - shared) * chance.standard_normal((len(truths), SAMPLES))
    return np.asarray((ease + own) < bars[:, None], np.float64)


def races(report: Report, name: str, truths: Numbers, shared: float, *, targets: bool) -> None:
    """How often one within two points of the best is chosen, and with what share of the calls."""
    chance = np.random.default_rng(1)
    right, whole, calls = 0, 0, []
    for _ in range(RACES):
        order = chance.permutation(len(truths))
        values = outcomes(chance, truths, shared)[order]
        chosen, took = race.simulate(values, RULES)
        near = truths[order] >= truths.max() - RULES.tolerance - 1e-9
        right += bool(near[chosen])
        whole += bool(near[values.mean(axis=1).argmax()])
        calls.append(100 * took / values.size)
    low, high = (100 * each for each in wilson(right / RACES, RACES, 0.95))
    report.add(
        f"{name}: chosen within 2 points of the best", 100 * right / RACES, "%", n=RACES, low=low, high=high,
        peer="everyone asked everything", peer_value=100 * whole / RACES, target=">= 98" if targets else "",
    )  # fmt: skip
    spread = np.quantile(calls, [0.05, 0.95])
    report.add(
        f"{name}: calls", float(np.mean(calls)), "% of all", n=RACES, low=float(spread[0]), high=float(spread[1]),
        target="<= 30" if targets else "",
    )  # fmt: skip


def false_alarms(report: Report) -> None:
    """Two equal candidates, looked at forty times: how often one is ever called better."""
    chance = np.random.default_rng(2)
    wrong = plain = 0
    for _ in range(STREAMS):
        one, other = outcomes(chance, np.array([0.8, 0.8]), 0.5)
        gaps = one - other
        names = [str(place) for place in range(SAMPLES)]
        rows = {"a": dict(zip(names, one.tolist(), strict=True)), "b": dict(zip(names, other.tolist(), strict=True))}
        wrong += any(
            race.look({name: dict(list(row.items())[:size]) for name, row in rows.items()}, {}, RULES).beaten
            for size in LOOKS
        )
        sums, squares = gaps.cumsum()[24::25], (gaps**2).cumsum()[24::25]
        counts = np.arange(25, SAMPLES + 1, 25)
        errors = np.sqrt(np.maximum(squares / counts - (sums / counts) ** 2, 1e-12) / counts)
        plain += bool((np.abs(sums / counts) > 1.96 * errors).any())
    low, high = (100 * each for each in wilson(wrong / STREAMS, STREAMS, 0.95))
    report.add(
        "two equal ones, 40 looks: one called better", 100 * wrong / STREAMS, "%", n=STREAMS, low=low, high=high,
        peer="plain interval", peer_value=100 * plain / STREAMS, target="<= 5",
    )  # fmt: skip


class _NoKeys:
    def active(self) -> list[Key]:
        return []

    def version(self) -> int:
        return 0


def gateway_of(routes: dict[str, Route]) -> Gateway:
    return Gateway(
        routes=routes, keys=_NoKeys(), record=lambda _: True, settings=Settings(require_key=False), mask=str,
        identity=Identity("bench", "0" * 64),
    )  # fmt: skip


def route(name: str, upstream: Upstream) -> Route:
    return Route(
        name=name, upstream=upstream, model=name, variant=name, release=name, price=(400.0, 1_600.0), rests=False
    )  # fmt: skip


def samples() -> list[Sample]:
    return [Sample(id=f"s{n}", input=f"Where is my card number {n}?", reference="card_arrival") for n in range(SAMPLES)]


async def measure(folder: Path, gateway: Gateway, names: list[str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one run over all samples."""
    with Store.open(folder) as store:
        run = Run(
            id=new_id(), time=now_us(), tenant="default", subject="", usecase="bench", spec_hash="", release="",
            step="select", dataset="bench@1", content="",
        )  # fmt: skip
        store.runs.begin(run)
        scorers = [make_scorer(name) for name in ("right_label", "first_token", "latency", "output_tokens", "cost")]
        runner = Runner(store, run, scorers, concurrency=CONCURRENCY)
        candidates: list[Candidate] = [
            through_gateway(
                gateway, Variant.model_validate({"id": name, "model": f"http://127.0.0.1:9/v1#{name}"}), name,
                price=(400.0, 1_600.0),
            )
            for name in names
        ]  # fmt: skip
        cpu, wall = time.process_time(), time.perf_counter()
        await runner.measure(candidates, samples())
        if sum(tally.answered for tally in runner.tallies.values()) != SAMPLES * len(names):
            raise RuntimeError(f"not everything was answered: {runner.tallies}")
        return time.process_time() - cpu, time.perf_counter() - wall


def own_cost(report: Report) -> None:
    """What the runner, with the gateway, costs a call; and a repeat with everything known."""
    names = [f"v{n}" for n in range(CANDIDATES)]
    gateway = gateway_of({name: route(name, Scripted(name, Script(text="card_arrival"))) for name in names})
    calls = SAMPLES * CANDIDATES

    async def both() -> tuple[tuple[float, float], tuple[float, float]]:
        with tempfile.TemporaryDirectory() as folder:
            return await measure(Path(folder), gateway, names), await measure(Path(folder), gateway, names)

    (cpu, wall), (cpu_again, wall_again) = asyncio.run(both())
    report.add("runner and gateway, CPU a call", 1_000 * cpu / calls, "ms", n=calls, target="<= 1")
    report.add("the same, wall time of the run", wall, "s", n=calls)
    report.add("repeat with everything known, wall time", wall_again, "s", n=calls, target="<= 2")
    report.add("repeat with everything known, CPU time", cpu_again, "s", n=calls)


SERVER = """
import asyncio, json, sys
ANSWER = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
    "message": {"role": "assistant", "content": "card_arrival"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}})
HEAD = '{"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", '
STREAM = "".join("data: " + line + "\\n\\n" for line in (
    HEAD + '"choices": [{"index": 0, "delta": {"content": "card_arrival"}, "finish_reason": null}]}',
    HEAD + '"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
    HEAD + '"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}}', "[DONE]"))
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            lines = head.lower().split(b"\\r\\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
            body = await reader.readexactly(length)
            stream = json.loads(body).get("stream")
            kind, data = ("text/event-stream", STREAM) if stream else ("application/json", ANSWER)
            head = f"HTTP/1.1 200 OK\\r\\ncontent-type: {kind}\\r\\ncontent-length: {len(data)}\\r\\n\\r\\n"
            writer.write((head + data).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
OURS = """
import asyncio, sys, tempfile
from pathlib import Path
from benchmarks.select import gateway_of, measure, route
from fairlead.providers.openai_compatible import OpenAICompatible
async def main():
    upstream = OpenAICompatible("m", sys.argv[1], "m")
    gateway = gateway_of({"m": route("m", upstream)})
    with tempfile.TemporaryDirectory() as folder:
        await measure(Path(folder), gateway, ["m"])
    await gateway.aclose()
asyncio.run(main())
"""


def beside(report: Report) -> None:
    """The same thousand samples on the same scripted server, each in a process of its own, start included."""
    npm = shutil.which("npm")
    if npm is None:
        print("promptfoo is left out: there is no npm here")
        return
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        with tempfile.TemporaryDirectory() as folder:
            theirs = _promptfoo(Path(folder), npm, base)
        ours = _timed([sys.executable, "-c", OURS, base], Path(__file__).parent.parent, dict(os.environ))
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
    if theirs is None:
        print("promptfoo is left out: it could not be installed")
        return
    for place, (what, unit) in enumerate((("wall time", "s"), ("CPU time", "s"), ("memory", "MB"))):
        report.add(
            f"one candidate, 1,000 samples over HTTP: {what}", ours[place], unit, n=SAMPLES, peer="promptfoo",
            peer_value=theirs[place],
        )  # fmt: skip


def _promptfoo(folder: Path, npm: str, base: str) -> tuple[float, float, float] | None:
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), PROMPTFOO, NODE]
    if subprocess.run(install, check=False, capture_output=True, timeout=900).returncode:
        return None
    tests = [{"vars": {"q": each.input}, "assert": [{"type": "equals", "value": "card_arrival"}]} for each in samples()]
    provider = {"id": "openai:chat:m", "config": {"apiBaseUrl": base, "apiKey": "none"}}
    config, binaries = folder / "config.json", folder / "node_modules" / ".bin"
    config.write_text(json.dumps({"prompts": ["{{q}}"], "providers": [provider], "tests": tests}), encoding="utf-8")
    command = [
        str(binaries / "promptfoo"), "eval", "-c", str(config), "-j", str(CONCURRENCY),
        "--no-cache", "--no-table", "--no-progress-bar", "-o", str(folder / "out.json"),
    ]  # fmt: skip
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1", "PROMPTFOO_CONFIG_DIR": str(folder)}
    found = _timed(command, folder, {**os.environ, **quiet, "PATH": f"{binaries}:{os.environ['PATH']}"})
    stats = json.loads((folder / "out.json").read_text(encoding="utf-8"))["results"]["stats"]
    if stats["successes"] != SAMPLES:
        raise RuntimeError(f"promptfoo did not answer everything: {stats}")
    return found


def _timed(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds, highest resident MB) of a command and its children."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode not in (0, 100):  # promptfoo's word for a test that failed
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1_024


def main() -> int:
    """Run everything; 1 when a target is missed."""
    report = Report(
        "select", note="Simulations with fixed seeds; the runner against scripted models, gateway included."
    )
    races(report, "three within 2 points, own difficulty", TRUE, 0.0, targets=True)
    races(report, "three within 2 points, half shared", TRUE, 0.5, targets=True)
    races(report, "all 3 points apart, own difficulty", APART, 0.0, targets=False)
    races(report, "all 3 points apart, half shared", APART, 0.5, targets=False)
    false_alarms(report)
    own_cost(report)
    beside(report)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
