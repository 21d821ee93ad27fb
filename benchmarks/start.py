"""How long `fairlead serve` takes to its first 200, what it holds in memory, and how large the default install is.

Each start is a fresh process on a fresh store. Without the model: the shop's use case with the in-process variant only,
until /healthz answers 200. With it: until the embedded model has answered a chat request. Python's byte code is there,
as pip leaves it when it installs a package: one start that is not counted writes it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution, requires
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from benchmarks.report import Report

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
REPEATS = 7


def project(folder: Path, *, model: bool) -> Path:
    """A copy of the shop, without the variants that need the engine unless ``model``."""
    target = folder / ("with" if model else "without")
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead"))
    path = target / "fairlead.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    keep = ("extractive", "mini") if model else ("extractive",)
    document["variants"] = [variant for variant in document["variants"] if variant["id"] in keep]
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return target


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ask(port: int, method: str, path: str, body: object = None) -> int:
    """The status of one request, 0 when nobody answers yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        payload = json.dumps(body) if body is not None else None
        connection.request(method, path, payload, {"content-type": "application/json"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def compiled(folder: Path) -> dict[str, str]:
    """The environment of a process that finds, and where it does not find it leaves, byte code in ``folder``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder)}


def help_s(env: dict[str, str]) -> float:
    """CPU seconds of `fairlead --help`."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "fairlead", "--help"], env=env, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def start(target: Path, *, model: bool, env: dict[str, str]) -> tuple[float, float, float]:
    """Seconds to the first 200, CPU seconds of the server until then, and its resident MB (without the engine)."""
    shutil.rmtree(target / ".fairlead", ignore_errors=True)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "fairlead",
        "serve",
        "--port",
        str(port),
        "--no-require-key",
        "--project",
        str(target),
    ]
    begun = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        body = {"model": "mini", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
        while (ask(port, "POST", "/v1/chat/completions", body) if model else ask(port, "GET", "/healthz")) != 200:
            if process.poll() is not None or time.monotonic() - begun > 60:
                raise SystemExit(f"`{' '.join(command)}` gave no 200 (exit status {process.poll()})")
            time.sleep(0.005)
        seconds = time.monotonic() - begun
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return seconds, cpu, int(line.split()[1]) / 1024
        raise SystemExit("the system does not tell the resident size")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def installed_megabytes() -> tuple[float, int]:
    """Size on disk of the default install (Fairlead's dependencies, none of the extras), and how many packages."""
    seen: set[str] = set()
    waiting = ["fairlead"]
    while waiting:
        name = waiting.pop().lower()
        if name in seen:
            continue
        seen.add(name)
        for line in requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    size = sum(
        file.stat().st_size
        for name in seen
        for path in distribution(name).files or []
        if (file := Path(str(path.locate()))).is_file()
    )
    size += sum(file.stat().st_size for file in (ROOT / "src").rglob("*") if file.is_file())
    return size / 1e6, len(seen)


def main() -> int:
    """Measure and report."""
    report = Report(
        "start",
        note=f"{REPEATS} fresh processes each on a fresh store, byte code there; low and high are the extremes.",
    )
    with tempfile.TemporaryDirectory() as folder:
        env = compiled(Path(folder) / "bytecode")
        for model, limit in ((False, 1.5), (True, 4.0)):
            target = project(Path(folder), model=model)
            runs = [start(target, model=model, env=env) for _ in range(REPEATS + 1)][1:]
            label = "with the embedded model" if model else "without a model"
            for index, (what, unit, bound) in enumerate(
                (("first 200", "s", f"<= {limit}"), ("CPU until then", "s", ""), ("resident", "MB", "<= 150"))
            ):
                values = [run[index] for run in runs]
                peer, peer_value = (("LiteLLM", 7.6), ("", None), ("LiteLLM", 390))[index]
                report.add(
                    f"{what}, {label}", statistics.median(values), unit, n=len(values), low=min(values),
                    high=max(values), target=bound, peer=peer, peer_value=peer_value,
                )  # fmt: skip
        values = [help_s(env) for _ in range(REPEATS + 1)][1:]
        report.add(
            "CPU of `fairlead --help`", statistics.median(values), "s", n=len(values), low=min(values), high=max(values)
        )
    size, packages = installed_megabytes()
    report.add(
        f"default install, {packages} packages", size, "MB", target="<= 450", peer="LiteLLM proxy", peer_value=720
    )
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
