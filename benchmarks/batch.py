"""What batches hold: no line lost or doubled while the server is killed, items an hour, and what live requests notice.

Real `fairlead serve` processes on a real store, in front of a scripted model in a process of its own. Part one kills
servers 100 times at random (most at work, every fifth whoever it is) during one batch of 10,000 lines and then counts.
Part two answers a batch in peace. Part three asks live, ten times a second at random, with and without a batch beside
it.

    python -m benchmarks.batch [--kills 100] [--lines 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from benchmarks.report import Report
from fairlead.batch import KIND, Batches
from fairlead.batch.runner import ENDED
from fairlead.gateway import Identity, Principal
from fairlead.records import Batch
from fairlead.store import Store

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
OPERATOR = Principal(subject="bench")
SERVERS = 4
"""Servers over one store while they are killed: one works on the batch, the others wait to take over."""
LIVE_RPS, LIVE_S, ROUNDS = 10.0, 15.0, 3
MODEL_S = 0.05
"""Seconds the model takes for an answer in part three."""


def scripted(port: int, delay_s: float, asked: Path) -> None:
    """The model: repeats what was said after a while, and notes what it was asked. Runs in its own process."""
    import uvicorn

    notes = asked.open("a", encoding="utf-8")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        said = json.loads(raw or b'{"messages": [{"content": "ready?"}]}')["messages"][-1]["content"]
        if raw:
            notes.write(said + "\n")
            notes.flush()
        await asyncio.sleep(delay_s)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        body = json.dumps(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        ).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, lifespan="off")


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, threads that ended included (Linux: clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


@contextlib.contextmanager
def model(folder: Path, delay_s: float) -> Iterator[tuple[str, Path]]:
    """The scripted model, its address and the file of what it was asked."""
    port, asked = free_port(), folder / f"asked-{delay_s}"
    words = [
        sys.executable,
        "-m",
        "benchmarks.batch",
        "--model",
        str(port),
        "--delay",
        str(delay_s),
        "--asked",
        str(asked),
    ]
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        while not answers(f"http://127.0.0.1:{port}/"):
            assert process.poll() is None, "the model did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1", asked
    finally:
        process.kill()
        process.wait()


class House:
    """A project of its own whose one model is the scripted one; ``start`` runs `fairlead serve` in it."""

    def __init__(self, folder: Path, address: str) -> None:
        self.project = folder / f"shop-{len(list(folder.glob('shop-*')))}"
        shutil.copytree(SHOP, self.project, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
        path = self.project / "fairlead.yaml"
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        document["variants"] = [{"id": "extractive", "model": "extractive"}, {"id": "fast", "model": f"{address}#m"}]
        document["live"] = "extractive"
        document.pop("judges", None)
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        self.store = Store.open(self.project / ".fairlead")
        self.batches = Batches(self.store, Identity(document["name"], "0" * 64), most_held_bytes=1 << 40)
        self.port = free_port()

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        """The server, not waited for."""
        words = [sys.executable, "-m", "fairlead", "serve", "--no-require-key"]
        with (self.project / "server.log").open("ab") as log:
            return subprocess.Popen([*words, "--project", str(self.project), *flags], cwd=ROOT, stdout=log, stderr=log)

    @contextlib.contextmanager
    def running(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """The server, answering; ended in good order."""
        server = self.start("--port", str(self.port), *flags)
        try:
            while not answers(f"http://127.0.0.1:{self.port}/healthz"):
                assert server.poll() is None, (self.project / "server.log").read_text(encoding="utf-8")
                time.sleep(0.05)
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)

    def submit(self, lines: int) -> Batch:
        """Queue a batch of ``lines`` requests, each with words of its own."""
        with self.store.files.writing() as (target, path):
            for number in range(lines):
                body = {"model": "fast", "messages": [{"role": "user", "content": f"line {number}"}], "max_tokens": 8}
                line = {"custom_id": f"id-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
                target.write(json.dumps(line).encode() + b"\n")
            target.flush()
            file = self.batches.keep_file(OPERATOR, path, "bench.jsonl")
        endpoint = "/v1/chat/completions"
        return self.batches.create(OPERATOR, input_file_id=file.id, endpoint=endpoint, completion_window="24h")

    def get(self, batch: Batch) -> Batch:
        """How it stands."""
        found = self.store.batches.get(batch.id)
        assert found is not None
        return found

    def wait(self, batch: Batch, within_s: float = 600.0) -> Batch:
        """The batch once it has ended."""
        end = time.monotonic() + within_s
        while (found := self.get(batch)).status not in ENDED:
            assert time.monotonic() < end, found
            time.sleep(0.1)
        return found

    def written(self, batch: Batch) -> int:
        """Whole lines in the journals of a batch, those of a zombie counted too."""
        folder = self.store.batches.folder(batch.id)
        return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.answers"))

    def lines(self, batch: Batch) -> list[dict[str, Any]]:
        """Every line of both files of an ended batch."""
        found = []
        for identifier in filter(None, (batch.output_file, batch.error_file)):
            file = self.store.files.get(identifier, batch.tenant)
            assert file is not None
            found += [json.loads(line) for line in self.store.files.path(file).read_bytes().splitlines()]
        return found


def holder(house: House) -> int:
    """The process that works on the batch now, 0 for none."""
    return next((int(job.worker.split("-")[-2]) for job in house.store.jobs.running() if job.kind == KIND), 0)


def kill_often(house: House, asked: Path, lines: int, kills: int, seed: int, report: Report) -> None:
    """Part one: a few servers over one store; one is killed, another takes over, a new one is started."""
    chance = random.Random(seed)
    batch = house.submit(lines)
    at_work = 0
    began = time.monotonic()
    servers = {server.pid: server for server in (house.start("--port", "0") for _ in range(SERVERS))}
    for number in range(kills):
        if number % 5 == 4:  # whoever it is: starting, waiting, at work
            time.sleep(chance.uniform(0.0, 1.0))
            victim = chance.choice(list(servers))
        else:
            while (victim := holder(house)) not in servers:
                time.sleep(0.005)
            before = house.written(batch)
            left = lines - before - 5 * (kills - number)
            after = chance.uniform(0, max(1.0, min(1.6 * lines / kills, left)))
            while holder(house) == victim and house.written(batch) - before <= after:
                time.sleep(0.002)
        at_work += holder(house) == victim
        server = servers.pop(victim)
        server.kill()
        server.wait()
        fresh = house.start("--port", "0")
        servers[fresh.pid] = fresh
        if number % 10 == 9:
            took = time.monotonic() - began
            print(f"{number + 1} kills, {house.written(batch)} of {lines} lines, {took:.0f} s", flush=True)
    early = house.get(batch).status in ENDED
    ended = house.wait(batch)
    for server in servers.values():
        server.kill()
        server.wait()
    found = house.lines(ended)
    times = collections.Counter(line["custom_id"] for line in found)
    wrong = sum(
        line["response"]["body"]["choices"][0]["message"]["content"] != line["custom_id"].replace("id-", "line ")
        for line in found
        if line["response"]
    )
    lost = sum(f"id-{number}" not in times for number in range(lines))
    again = sum(1 for _ in asked.open(encoding="utf-8")) - lines
    report.add("kills of servers during one batch", kills, "kills", n=kills, target=f">= {kills}")
    report.add("of them while it worked on the batch", at_work, "kills", n=kills)
    report.add("lines lost", lost, "lines", n=lines, target="== 0")
    report.add("lines doubled", sum(times.values()) - len(times), "lines", n=lines, target="== 0")
    report.add(
        "lines with another's answer, or none",
        wrong + sum(not line["response"] for line in found),
        "lines",
        n=lines,
        target="== 0",
    )
    report.add("the batch ended before the last kill", float(early), "", target="== 0")
    report.add("requests asked again because of the kills", 100 * again / lines, "% of lines", n=lines)

    print(
        f"part one: {lost} lost, {len(found)} lines for {len(times)} ids, {wrong} wrong, {at_work} at work", flush=True
    )


def in_peace(house: House, lines: int, report: Report) -> None:
    """Part two."""
    with house.running("--batch-places", "16") as server:
        rates, costs = [], []
        for _ in range(ROUNDS):
            cpu, began = cpu_s(server.pid), time.monotonic()
            house.wait(house.submit(lines))
            rates.append(lines / (time.monotonic() - began) * 3600)
            costs.append((cpu_s(server.pid) - cpu) / lines * 1e6)
    report.add(
        "items answered", statistics.median(rates), "an hour", n=ROUNDS, low=min(rates), high=max(rates),
        target=">= 100000",
    )  # fmt: skip
    report.add(
        "CPU of the server, everything recorded", statistics.median(costs), "µs an item", n=ROUNDS, low=min(costs),
        high=max(costs),
    )  # fmt: skip


async def ask_live(port: int, seed: int) -> list[float]:
    """Milliseconds of each live request, counted from when it was due."""
    chance = random.Random(seed)
    took: list[float] = []
    body = {"model": "fast", "messages": [{"role": "user", "content": "live"}]}
    async with aiohttp.ClientSession() as session:

        async def one(due: float) -> None:
            await asyncio.sleep(due - time.monotonic())
            async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as response:
                await response.read()
                assert response.status == 200, await response.text()
            took.append((time.monotonic() - due) * 1e3)

        due, tasks = time.monotonic() + 0.2, []
        end = due + LIVE_S
        while due < end:
            tasks.append(asyncio.create_task(one(due)))
            due += chance.expovariate(LIVE_RPS)
        await asyncio.gather(*tasks)
    return took


def beside(house: House, report: Report) -> None:
    """Part three."""
    alone: list[float] = []
    together: list[float] = []
    answered = 0
    with house.running("--batch-places", "8"):
        asyncio.run(ask_live(house.port, 99))  # warm up
        for round_ in range(ROUNDS):
            alone += asyncio.run(ask_live(house.port, round_))
            batch = house.submit(20_000)
            while house.get(batch).completed == 0:
                time.sleep(0.05)
            before = house.get(batch).completed
            together += asyncio.run(ask_live(house.port, round_))
            answered += house.get(batch).completed - before
            house.batches.cancel(OPERATOR, batch.id)
            house.wait(batch)
    for name, took in (("alone", alone), ("beside a batch", together)):
        for share in (50, 95):
            value = statistics.quantiles(took, n=100)[share - 1]
            report.add(f"live requests {name}, p{share}", value, "ms", n=len(took))
    rise = [statistics.quantiles(took, n=100)[94] for took in (alone, together)]
    report.add("rise of the live p95 beside a batch", (rise[1] / rise[0] - 1) * 100, "%", n=len(together))
    report.add("batch items answered meanwhile", answered / (LIVE_S * ROUNDS) * 3600, "an hour", n=answered)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--asked", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        scripted(options.model, options.delay, options.asked)
        return 0
    note = (
        f"{options.lines} lines, 8 places, kills drawn with seed {options.seed}: every fifth any of {SERVERS} servers, "
        f"the others the one at work after a random number of answers. Live: {LIVE_RPS:g} requests/s for {LIVE_S:g} s, "
        f"{ROUNDS} times, a model that takes {MODEL_S * 1e3:g} ms. Server, model and client share {os.cpu_count()} "
        f"cores, so times are upper bounds."
    )
    report = Report("batch", note=note)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with model(folder, 0.01) as (address, asked):
            kill_often(House(folder, address), asked, options.lines, options.kills, options.seed, report)
        with model(folder, 0.0) as (address, _):
            in_peace(House(folder, address), min(5_000, options.lines), report)
        with model(folder, MODEL_S) as (address, _):
            beside(House(folder, address), report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
