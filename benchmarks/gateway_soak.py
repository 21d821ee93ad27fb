"""Whether the gateway holds: a steady rate with flat memory, and thousands of open streams on one process.

Everything is as in `benchmarks.gateway`: the same model server and load generator in C, the gateway as `fairlead serve`
sets it up, recording to its store on disk.

    python -m benchmarks.gateway_soak --seconds 600            2,000 requests a second for ten minutes, 5,000 streams
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway import (
    ONE_SHOT,
    PACED,
    Peer,
    await_answer,
    build,
    cpu_s,
    fairlead,
    free_port,
    load,
    memory_mib,
    running,
)
from benchmarks.report import Report

PACE_MS = 400
EVERY_S = 0.5


class Watch:
    """Memory and open files of a process, as they change."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.memory: list[float] = []
        self.most_files = 0

    def _look(self) -> None:
        while not self._over.wait(EVERY_S):
            self.memory.append(memory_mib(self._pid))
            with contextlib.suppress(OSError):
                self.most_files = max(self.most_files, len(os.listdir(f"/proc/{self._pid}/fd")))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def raise_limit(files: int) -> None:
    """Let this process, and those it starts, open so many files. Raises RuntimeError when the system forbids it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < files:
        raise RuntimeError(f"{files} open files are needed and {most} allowed; run: ulimit -Hn {files}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def steady(report: Report, tool: Path, peer: Peer, rate: int, seconds: float, folder: Path) -> None:
    """``rate`` requests a second: all answered, at what price, and whether memory stays where it was after the first
    quarter, when the queue of records and the journal have their size."""
    watch = Watch(peer.pid)
    mode = dataclasses.replace(ONE_SHOT, connections=64, rate=rate)
    load(tool, peer, mode, 2, folder)
    before = cpu_s(peer.pid)
    with watch.watching():
        result = load(tool, peer, mode, seconds, folder)
    used = cpu_s(peer.pid) - before
    quarter = len(watch.memory) // 4
    settled, late = watch.memory[quarter : 2 * quarter], watch.memory[-quarter:]
    growth = sum(late) / len(late) - sum(settled) / len(settled)
    n = int(result["good"])
    report.add("steady: requests answered a second", n / seconds, "1/s", n=n, target=f">= {0.99 * rate:g}")
    report.add("steady: share of one core", used / seconds, "cores", n=n, target="<= 1")
    report.add("steady: memory, last quarter over the second", growth, "MiB", n=len(watch.memory), target="<= 10")
    report.add("steady: memory, most", max(watch.memory), "MiB", n=len(watch.memory))
    report.add("steady: p50", result["total_p50"] / 1000, "ms", n=n)
    report.add("steady: p99", result["total_p99"] / 1000, "ms", n=n)


def many(report: Report, tool: Path, peer: Peer, streams: int, folder: Path) -> None:
    """``streams`` at once, each of them whole at the end (``load`` raises when one is not)."""
    watch = Watch(peer.pid)
    idle = memory_mib(peer.pid)
    mode = dataclasses.replace(PACED, connections=streams)
    wide = dataclasses.replace(peer, most_connections=streams)
    with watch.watching():
        result = load(tool, wide, mode, 50 * PACE_MS / 1000 * 1.9, folder)
    report.add("streams: whole", result["good"], "streams", n=int(result["good"]), target=f">= {streams}")
    report.add("streams: most sockets of the process", watch.most_files, "files", target=f">= {2 * streams}")
    report.add("streams: memory a stream", (max(watch.memory) - idle) * 1024 / streams, "KiB", n=streams)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the steady load")
    parser.add_argument("--rate", type=int, default=2000, help="requests a second")
    parser.add_argument("--streams", type=int, default=5000, help="streams at once")
    given = parser.parse_args()
    raise_limit(3 * given.streams + 1000)
    note = f"{given.rate} requests a second for {given.seconds:g} s, then {given.streams} streams of 53 events at once."
    report = Report("gateway_soak", note=note)
    with tempfile.TemporaryDirectory(prefix="fairlead-soak-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server, tool = build(folder)
        upstream = free_port()
        stack.enter_context(running([str(server), str(upstream), str(PACE_MS)], folder / "up.out"))
        await_answer(upstream, (), folder / "up.out")
        with fairlead(upstream, folder) as peer:
            steady(report, tool, peer, given.rate, given.seconds, folder)
            time.sleep(1)
            many(report, tool, peer, given.streams, folder)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
