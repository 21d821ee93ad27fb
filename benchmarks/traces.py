"""The trace store: what a record costs when it is appended, rolled, kept and looked up. Run: make bench NAME=traces.

Records are as long as real ones (about 1.9 kB) and differ in every text: words drawn by Zipf's law from a vocabulary,
taken from the messages under FAIRLEAD_DATA when that is set, else from a small list of our own. CPU is counted, not
time, because machines are shared; times to answer are given too. ``--rows 10_000_000`` is the size the targets name;
the default shows the same figures on fewer rows in about a minute.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks.report import Report
from fairlead.records import Inference, new_id, now_us
from fairlead.store import Store

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
SPAN = 30 * DAY
BATCH = 2_000
OWN_WORDS = (
    "order parcel refund return delivery invoice address cancel change track late broken wrong size colour voucher "
    "account password payment card bank transfer customs pickup locker courier warranty repair exchange shop help "
    "please thanks where when how why my the a is was has not yet still again today tomorrow yesterday since before"
).split()


def _vocabulary() -> tuple[list[str], str]:
    """Words, most frequent first, and where they are from."""
    folder = os.environ.get("FAIRLEAD_DATA", "")
    files = sorted(Path(folder).glob("**/*.csv")) if folder else []
    counts: dict[str, int] = {}
    for path in files[:20]:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in itertools.islice(csv.reader(file), 5_000):
                for word in " ".join(row).split():
                    counts[word] = counts.get(word, 0) + 1
    if not counts:
        return OWN_WORDS + [f"{one}{two}" for one in OWN_WORDS for two in OWN_WORDS], "words of our own"
    return sorted(counts, key=lambda word: -counts[word])[:20_000], f"words of {len(files)} files under FAIRLEAD_DATA"


class Records:
    """Makes traces of real length, in order of time."""

    def __init__(self, count: int) -> None:
        words, self.source = _vocabulary()
        chance = random.Random(11)
        self._words = words
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
        self._chance = chance
        self._count = count
        self._since = now_us() // DAY * DAY - SPAN

    def batches(self, start: int, end: int) -> Iterator[list[Inference]]:
        """The records from one number to another."""
        for begin in range(start, end, BATCH):
            yield [self._one(number) for number in range(begin, min(begin + BATCH, end))]

    def _text(self, words: int) -> str:
        return " ".join(self._chance.choices(self._words, cum_weights=self._weights, k=words))

    def _one(self, number: int) -> Inference:
        chance = self._chance
        asked = json.dumps([{"role": "system", "content": self._text(60)}, {"role": "user", "content": self._text(60)}])
        return Inference(
            id=new_id(),
            time=self._since + SPAN * number // self._count,
            tenant=chance.choice(("default", "other")),
            subject=f"subject-{chance.randrange(5_000)}",
            usecase="shop-support",
            spec_hash="5e" * 32,
            release="7a" * 32,
            conversation=f"01900000-0000-7000-8000-{number // 4:012d}",
            request=f"req_{chance.getrandbits(96):024x}",
            key="01900000-0000-7000-8000-000000000001",
            variant=chance.choice(("extractive", "mini", "hosted")),
            provider="openai",
            model="gpt-4.1-mini",
            stream=True,
            status=chance.choice((200, 200, 200, 200, 429)),
            finish="stop",
            input_tokens=chance.randrange(200, 2_000),
            output_tokens=chance.randrange(10, 300),
            cost=chance.randrange(10_000, 900_000),
            first_token_us=chance.randrange(50_000, 900_000),
            total_us=chance.randrange(100_000, 5_000_000),
            steps={"authenticate": 9, "admit": 4, "mask": 21, "choose": 3, "call": 800_000, "check": 15, "record": 2},
            input=asked,
            output=self._text(60),
            tags={"channel": "chat"},
        )


def _fill(directory: Path, rows: int) -> dict[str, float]:
    """Write and roll; what each record cost, in CPU microseconds."""
    records = Records(rows)
    append = orjson_line = roll = 0.0
    length = 0
    lines: list[bytes] = []
    with Store.open(directory, segment_rows=1 << 40, segment_s=1e9, queue=2 * BATCH) as store:
        for start, end in _journals(rows):
            for batch in records.batches(start, end):
                began = time.thread_time()
                for record in batch:
                    store.traces.append(record)
                append += time.thread_time() - began
                store.traces.flush()
                if len(lines) < 10 * BATCH:
                    began = time.thread_time()
                    lines += [orjson.dumps(_builtins(record)) + b"\n" for record in batch]
                    orjson_line += time.thread_time() - began
            length += _size(directory / "traces" / "journal", "*.jsonl")
            began = time.process_time()
            store.traces.roll()
            roll += time.process_time() - began
        status = store.traces.status()
        writer = store.traces.writer_cpu_s
        if status["rows"] != rows or status["dropped"]:
            raise SystemExit(f"the store holds {status['rows']} of {rows} rows and dropped {status['dropped']}")
    return {
        "append": append / rows * 1e6,
        "writer": writer / rows * 1e6,
        "orjson": orjson_line / len(lines) * 1e6,
        "roll": roll / rows * 1e6,
        "raw": length / rows,
        "kept": status["bytes"] / rows,
        "segments": status["segments"],
        "memory": _memory(),
    }


def _roll(directory: Path, rows: int) -> dict[str, float]:
    """Full journals (64 MB) to segments, as in a process that has been running: the first one is not counted.

    The least of four counts: what else runs on the machine only ever adds.
    """
    records = Records(10_000_000)
    spent = []
    with Store.open(directory, segment_rows=1 << 40, segment_s=1e9, queue=2 * BATCH) as store:
        for number in range(5):
            for batch in records.batches(number * rows, (number + 1) * rows):
                for record in batch:
                    store.traces.append(record)
                store.traces.flush()
            began = time.process_time()
            if store.traces.roll() != rows:
                raise SystemExit("a journal was rolled too early to be measured")
            spent.append((time.process_time() - began) / rows * 1e6)
    return {"median": statistics.median(spent[1:]), "low": min(spent[1:]), "high": max(spent[1:])}


def _journals(rows: int) -> Iterator[tuple[int, int]]:
    """From which record to which a journal goes: within one day of thirty, and 100,000 records at most."""
    days = [rows * day // 30 for day in range(31)]
    for first, last in itertools.pairwise(days):
        yield from ((start, min(start + 100_000, last)) for start in range(first, last, 100_000))


def _builtins(record: Inference) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _ask(directory: Path, rows: int) -> dict[str, float]:
    """Questions to a store that holds only segments: seconds to answer, and CPU seconds."""
    until = now_us()
    answers: dict[str, float] = {}
    with Store.open(directory) as store:
        some = store.traces.query(since=until - SPAN, until=until - SPAN // 2, limit=1)[0]
        ask: dict[str, Callable[[], int]] = {
            "p95": lambda: len(store.traces.summary(since=until - 2 * SPAN, until=until, bucket_us=HOUR)),
            "page": lambda: len(store.traces.query(since=until - 2 * SPAN, until=until, limit=50)),
            "day": lambda: len(store.traces.summary(since=until - 2 * DAY, until=until, bucket_us=HOUR)),
            "point": lambda: int(store.traces.get(some.id) == some),
        }
        for name, question in ask.items():
            if not question():
                raise SystemExit(f"no answer to {name}")
            times, spent = [], []
            for _ in range(5):
                wall, cpu = time.perf_counter(), time.process_time()
                question()
                times.append(time.perf_counter() - wall)
                spent.append(time.process_time() - cpu)
            answers[name], answers[f"{name}_low"], answers[f"{name}_high"] = (
                statistics.median(times),
                min(times),
                max(times),
            )
            answers[f"{name}_cpu"] = statistics.median(spent)
    return {**answers, "memory": _memory()}


def _page(directory: Path, rows: int) -> dict[str, float]:
    """The newest page while everything is still in the journal."""
    records = Records(rows)
    with Store.open(directory, segment_rows=1 << 40, segment_s=1e9, queue=2 * BATCH) as store:
        for batch in records.batches(0, rows):
            for record in batch:
                store.traces.append(record)
            store.traces.flush()
        until = now_us()
        first = time.process_time()
        store.traces.query(since=0, until=until, limit=50)
        first = time.process_time() - first
        times = []
        for _ in range(9):
            began = time.process_time()
            store.traces.query(since=0, until=until, limit=50)
            times.append(time.process_time() - began)
    return {"first": first / rows * 1e6, "page": statistics.median(times), "low": min(times), "high": max(times)}


def _memory() -> float:
    """The most memory this process ever held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _size(directory: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern))


_PARTS = {"fill": _fill, "ask": _ask, "page": _page, "roll": _roll}


def _child(part: str, directory: Path, rows: int) -> dict[str, float]:
    """Run a part in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.traces", "--part", part, "--rows", str(rows), "--data", str(directory)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def main() -> int:
    """Measure, print, write the results; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--data", type=Path, help="directory for the store; default: a temporary one, removed again")
    parser.add_argument("--part", choices=_PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(_PARTS[arguments.part](arguments.data, arguments.rows)))
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        rows, small = arguments.rows, min(arguments.rows, 30_000)
        fill = _child("fill", Path(folder) / "filled", rows)
        ask = _child("ask", Path(folder) / "filled", rows)
        page = _child("page", Path(folder) / "page", small)
        roll = _child("roll", Path(folder) / "roll", 28_000)
    _, source = _vocabulary()
    report = Report("traces", note=f"{rows:,} rows over 30 days; texts from {source}.")
    report.add("append, serving path", fill["append"], "CPU µs/row", n=rows, target="<= 6")
    report.add("encode and write, own thread", fill["writer"], "CPU µs/row", n=rows)
    report.add(
        "append, encode and write together",
        fill["append"] + fill["writer"],
        "CPU µs/row",
        n=rows,
        peer="orjson line, no checksum, not written",
        peer_value=fill["orjson"],
    )
    low, high = roll["low"], roll["high"]
    report.add("roll of a full journal, least of 4", low, "CPU µs/row", n=28_000, low=low, high=high, target="<= 20")
    report.add("roll of a full journal, median", roll["median"], "CPU µs/row", n=28_000, low=low, high=high)
    report.add("roll of the journals of a day", fill["roll"], "CPU µs/row", n=rows)
    report.add("journal", fill["raw"], "bytes/row", n=rows)
    report.add("segments", fill["kept"], "bytes/row", n=rows, peer="journal", peer_value=fill["raw"])
    report.add("memory while writing and rolling", fill["memory"], "MB", target="<= 400")
    for name, label, target in (
        ("p95", "p50 and p95 by hour, 30 days", "<= 1"),
        ("day", "p50 and p95 by hour, 1 day", ""),
        ("page", "newest 50, from segments", ""),
        ("point", "one by id, from segments", ""),
    ):
        report.add(label, ask[name], "s", n=5, low=ask[f"{name}_low"], high=ask[f"{name}_high"], target=target)
        report.add(f"{label}: CPU", ask[f"{name}_cpu"], "CPU s", n=5)
    report.add("memory while asking", ask["memory"], "MB", target="<= 400")
    report.add("newest 50, from the journal", page["page"], "CPU s", n=9, low=page["low"], high=page["high"])
    report.add("journal read for the first time", page["first"], "CPU µs/row", n=small)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
