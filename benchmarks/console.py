"""What a console page costs on a million inferences: CPU of the server per page, all its threads together.

Fills a store with ``--rows`` inferences over 30 days, two per answer as the assistant makes them, in conversations of
fifty, and with runs of one real selection, and asks for the pages in process. Wall times of a shared machine are
printed, not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import random
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml

from benchmarks.report import Report
from fairlead.app import Fairlead, build
from fairlead.cli import main as main_of_commands
from fairlead.console import create_app
from fairlead.records import Conversation, Inference, now_us
from fairlead.settings import load
from fairlead.store import Store

ROOT = Path(__file__).resolve().parent.parent
DAY_US = 86_400_000_000
DAYS = 30
PER_CONVERSATION = 50
FLUSH_EVERY = 5_000
ROUNDS = 5
PAGES = (
    "", "?range=7d", "?range=30d", "/conversations", "/conversations?range=30d", "/conversations?q=parcel&range=30d",
    "/traces", "/traces?status=502&range=30d", "/choose", "/deploy", "/define",
)  # fmt: skip
RUNS = 300
TARGET_MS = 200


def identifier(time_us: int, rng: random.Random) -> str:
    """A UUIDv7 of a moment in the past."""
    bits = (time_us // 1000 << 80) | (7 << 76) | (rng.getrandbits(12) << 64) | (2 << 62) | rng.getrandbits(62)
    return str(uuid.UUID(int=bits))


def fill(store: Store, usecase: str, rows: int) -> None:
    """Inferences evenly over the days, pairs of an answer and its call."""
    rng = random.Random(1)
    begin = now_us() - DAYS * DAY_US
    columns: dict[str, Any] = {"tenant": "default", "subject": "s", "usecase": usecase}
    columns |= {"spec_hash": "a" * 64, "release": "b" * 64}
    conversation = parent = ""
    for number in range(rows):
        moment = begin + number * DAYS * DAY_US // rows
        name = identifier(moment, rng)
        if number % PER_CONVERSATION == 0:
            conversation = name
            title = f"Question {number} about a {'parcel' if number % 1000 == 0 else 'return'}"
            store.conversations.create(
                Conversation(id=name, time=moment, updated=moment, turns=25, title=title, **columns)
            )
        answer = number % 2 == 0
        total = int(rng.lognormvariate(11.5, 0.6))
        record = Inference(
            id=name,
            time=moment,
            conversation=conversation,
            parent="" if answer else parent,
            operation="assistant" if answer else "chat",
            variant="extractive",
            model="extractive",
            status=502 if rng.random() < 0.02 else 200,
            input_tokens=900,
            output_tokens=40,
            cost=None if answer else 0,
            first_token_us=total // 3,
            total_us=total,
            steps={"retrieve": 300, "call": total - 300},
            input='{"message":"How many days do I have to return an item?"}',
            output='{"text":"You can return unused items within 30 days of delivery."}',
            **columns,
        )
        parent = name if answer else parent
        store.traces.append(record)
        if number % FLUSH_EVERY == 0:
            store.traces.flush(60)  # the queue is bounded, and nothing may be dropped here
    store.traces.flush(60)
    store.traces.roll()


def select_many(project: Path, runs: int) -> str:
    """One real selection on the shop's samples, and as many runs like it; returns the last one's id."""
    wanted = ("--candidates", "extractive,baseline:retrieval", "--samples", "200", "--json")
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main_of_commands(["select", "--project", str(project), *wanted])
    with Store.open(load({"project": project}, {}).data_path) as store:
        [first] = store.runs.list(since=0, until=now_us() + 1)
        for number in range(1, runs):
            run = msgspec.structs.replace(first, id=identifier(first.time, random.Random(number)), report={})
            store.runs.begin(run)
            store.runs.end(msgspec.structs.replace(run, report=first.report))
    return first.id


async def measure(fairlead: Fairlead, report: Report, run: str) -> None:
    """Every page: once cold, then the median of some rounds."""
    site = create_app(fairlead)
    key = fairlead.store.keys.create("bench", ("admin",))[1]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://bench", timeout=60) as client:
        answer = await client.post("/console/login", data={"key": key})
        assert answer.status_code == 303, answer.status_code
        await client.get("/console")  # imports and compiles what the first page needs
        for page in (*PAGES, f"/choose/{run}", f"/choose/{run}/answers?candidate=extractive"):
            cpu, wall = [], []
            for _ in range(ROUNDS):
                began, spent = time.perf_counter(), time.process_time()
                answer = await client.get(f"/console{page}")
                cpu.append((time.process_time() - spent) * 1e3)
                wall.append((time.perf_counter() - began) * 1e3)
                assert answer.status_code == 200, (page, answer.status_code)
            typical = sorted(cpu)[ROUNDS // 2]
            name = f"/console{page}".replace(run, "RUN")
            report.add(
                name, round(typical, 1), "ms CPU", n=ROUNDS, low=min(cpu), high=max(cpu), target=f"<= {TARGET_MS}"
            )
            report.add(f"{name}, asked first", round(cpu[0], 1), "ms CPU")
            report.add(f"{name}, wall", round(sorted(wall)[ROUNDS // 2], 1), "ms", n=ROUNDS)


def main() -> int:
    """Fill, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="Inferences in the store.")
    rows = parser.parse_args().rows
    kept = "Figures of a week or more are kept for 30 s; 'asked first' is the price without that."
    report = Report("console", note=f"{rows:,} inferences over {DAYS} days. {kept}")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "shop"
        shutil.copytree(ROOT / "examples" / "shop", project, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
        path = project / "fairlead.yaml"
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        spec["variants"] = [variant for variant in spec["variants"] if variant["id"] == spec["live"]]
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        run = select_many(project, RUNS)
        fairlead = build(load({"project": project}, {}))
        try:
            fill(fairlead.store, fairlead.usecase.name, rows)
            asyncio.run(measure(fairlead, report, run))
        finally:
            asyncio.run(fairlead.stop())
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
