"""What it saves to send the embedding requests of several callers to their server as one (`dynamic_batching`).

32 callers at once ask a gateway for the embedding of one short text each; behind it stands a second Fairlead whose
`embed` model answers. The same gateway is asked in turns for a variant that sends every request by itself and for two
that gather, with and without a delay. What counts is the CPU time of both processes for each request. Beside it: what
computing 16 messages together would save each of a classifier that answers in this process, which is not done.

    make bench NAME=batching            needs gcc
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gateway import Peer, build, cpu_s, free_port, running
from benchmarks.report import Report
from fairlead.engines.embed.embedder import shared
from fairlead.engines.embed.intents import Intents
from training.embed_data import Split, load_topics

CALLERS, TOGETHER, MESSAGES = 32, 16, 320
MODELS = {"alone": "one by one", "turn": "together, no delay", "delay": "together, within 2 ms"}
SERVED = """
fairlead: 1
name: behind
purpose: Make embeddings.
users: {who: nobody}
risk: minimal
variants: [{id: plain, model: extractive}]
live: plain
"""
GATEWAY = """
fairlead: 1
name: before
purpose: Measure a gateway.
users: {who: nobody}
risk: minimal
variants:
  - {id: alone, model: "http://127.0.0.1:PORT/v1#embed"}
  - {id: turn, model: "http://127.0.0.1:PORT/v1#embed", dynamic_batching: {}}
  - {id: delay, model: "http://127.0.0.1:PORT/v1#embed", dynamic_batching: {max_queue_delay_ms: 2}}
live: alone
"""


def command_of(folder: Path, name: str, text: str, port: int) -> list[str]:
    """What serves a project, which is written for it."""
    project = folder / name
    project.mkdir()
    (project / "fairlead.yaml").write_text(text, encoding="utf-8")
    options = ["--project", str(project), "--port", str(port), "--no-require-key", "--log-level", "warning"]
    return [sys.executable, "-m", "fairlead", "serve", *options]


def ask(tool: Path, port: int, model: str, seconds: float, folder: Path, callers: int = CALLERS) -> dict[str, float]:
    """What the load generator says of ``seconds`` of requests to ``model``. Raises RuntimeError unless all succeed."""
    file = folder / "body.json"
    text = "Where is my parcel ######## and can I still send it back?"
    file.write_text(json.dumps({"model": model, "input": text}), encoding="utf-8")
    command = [str(tool), str(port), str(callers), str(seconds), "0", str(file), "/v1/embeddings"]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if result["bad"] or result["broken"] or not result["good"]:
        raise RuntimeError(f"{model}: not every request was answered: {result}")
    return result


def await_answer(tool: Path, port: int, model: str, folder: Path, log: Path) -> None:
    """Wait until ``model`` answers."""
    until = time.monotonic() + 60
    while True:
        try:
            ask(tool, port, model, 0.1, folder, 1)
            return
        except (RuntimeError, subprocess.CalledProcessError):
            if time.monotonic() > until:
                raise RuntimeError(log.read_text(errors="replace")[-2000:]) from None
            time.sleep(0.1)


def measure(
    tool: Path, before: Peer, behind: Peer, rounds: int, seconds: float, folder: Path
) -> dict[str, list[dict[str, float]]]:
    """By model, each round's CPU microseconds a request of both processes, and its median latency in milliseconds."""
    found: dict[str, list[dict[str, float]]] = {model: [] for model in MODELS}
    for turn in range(rounds + 1):
        for model in MODELS:
            start = cpu_s(before.pid), cpu_s(behind.pid)
            result = ask(tool, before.port, model, seconds, folder)
            time.sleep(0.3)  # what is done after the answer (recording) belongs to the request
            used = [cpu_s(peer.pid) - was for peer, was in zip((before, behind), start, strict=True)]
            if turn:  # the first is for warming up
                gateway, server = (1e6 * each / result["good"] for each in used)
                row = {"gateway": gateway, "server": server, "p50": result["total_p50"] / 1000}
                found[model].append(row)
                print(model, {name: round(value, 1) for name, value in row.items()}, file=sys.stderr)
    return found


def add_classifier(report: Report, rounds: int) -> None:
    """What the intent classifier takes for a message, and what it would take less for one of several together."""
    topics = [topic for topic in load_topics() if len(topic.questions_of(Split.TRAIN)) >= 5]
    asked = [(text, topic.name) for topic in topics for text in topic.questions_of(Split.TRAIN)]
    texts = [text for text, _ in asked][: MESSAGES // TOGETHER * TOGETHER]
    model = Intents.fit([text for text, _ in asked], [name for _, name in asked], shared(), kept=1)

    def cpu_us(size: int) -> float:
        start = time.process_time_ns()
        for first in range(0, len(texts), size):
            model.guesses(texts[first : first + size], shared())
        return (time.process_time_ns() - start) / 1000 / len(texts)

    cpu_us(1)
    pairs = [(cpu_us(1), cpu_us(TOGETHER)) for _ in range(rounds)]
    alone, saved = [one for one, _ in pairs], [one - many for one, many in pairs]
    for name, values in (
        ("CPU of a message's intent", alone),
        (f"CPU that {TOGETHER} messages together would save each", saved),
    ):
        report.add(name, statistics.median(values), "µs", n=rounds, low=min(values), high=max(values))


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, tool = build(folder)
        ports = free_port(), free_port()
        logs = folder / "behind.out", folder / "before.out"
        served = command_of(folder, "behind", SERVED, ports[0])
        asked = command_of(folder, "before", GATEWAY.replace("PORT", str(ports[0])), ports[1])
        with running(served, logs[0]) as behind_pid, running(asked, logs[1]) as before_pid:
            await_answer(tool, ports[0], "embed", folder, logs[0])
            for model in MODELS:
                await_answer(tool, ports[1], model, folder, logs[1])
            before, behind = Peer("before", ports[1], before_pid), Peer("behind", ports[0], behind_pid)
            found = measure(tool, before, behind, options.rounds, options.seconds, folder)
    report = Report("batching", note=f"{CALLERS} callers; the server behind the gateway is a Fairlead with `embed`.")
    for model, title in MODELS.items():
        rows = found[model]
        for what, unit, values in (
            ("requests a CPU second of the gateway", "/s", [1e6 / row["gateway"] for row in rows]),
            ("requests a CPU second of both", "/s", [1e6 / (row["gateway"] + row["server"]) for row in rows]),
            ("latency, p50", "ms", [row["p50"] for row in rows]),
        ):
            report.add(
                f"{what}, {title}", statistics.median(values), unit, n=len(values), low=min(values), high=max(values)
            )
    add_classifier(report, options.rounds)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
