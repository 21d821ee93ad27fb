"""What a request costs in the gateway, beside nginx and LiteLLM, in one run on one machine.

The figure to trust is the CPU time of the gateway's whole process tree per request (user and system, from /proc): it
hardly depends on what else the machine does. Every gateway stands alone between the same load generator and the same
model server, both small C programs of ours (compiled here), neither of which is ever the limit. No two requests are the
same. Fairlead is measured twice: its data plane (keys, checks, masking, recording to its store on disk), and
`fairlead serve` with everything on: limits for key, tenant and user, two budgets, the cache (which misses), lanes.

    make bench NAME=gateway            needs gcc; nginx and the peers where found, named as missing where not
    python -m benchmarks.gateway --install-peers ~/peers   first installs LiteLLM and TensorZero there, apart
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import Report

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
PATH = "/v1/chat/completions"
THIN = "thin relay"
EVERYTHING_ON = "Fairlead, everything on"
OURS = ("Fairlead", EVERYTHING_ON)
ALL = ("fairlead", "everything", "thin", "nginx", "litellm", "tensorzero")
START_S = 120.0
LITELLM_KEY = "sk-" + "0123456789abcdef" * 2
CONTENT = (
    "My parcel was due on Monday and the tracking page has not changed for three days. I would like to know where it "
    "is, whether I can still send it to another address, and what happens if it is lost on the way. I am at work until "
    "six, so an evening delivery would suit me best. My reference is ########."
)


@dataclasses.dataclass(frozen=True)
class Mode:
    """One kind of load. ``rate`` 0 sends as fast as answers come; ``repeated`` asks the very same thing every time."""

    name: str
    model: str
    stream: bool
    connections: int
    rate: float = 0
    repeated: bool = False


ONE_SHOT = Mode("one-shot, 32 at once", "plain", False, 32)
BURST = Mode("50-chunk stream in a burst, 32 at once", "plain", True, 32)
PACED = Mode("50-chunk stream at 10 ms, 64 at once", "paced", True, 64)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A gateway under test, listening on ``port`` as process ``pid``."""

    name: str
    port: int
    pid: int
    headers: tuple[str, ...] = ()
    low_rate: float = 100
    most_connections: int = 64
    path: str = PATH
    prefix: str = ""
    """What its path is, and what it wants before a model's name."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def build(folder: Path) -> tuple[Path, Path]:
    """The model server and the load generator, compiled."""
    made = []
    for name in ("gateway_upstream", "gateway_load"):
        subprocess.run(["gcc", "-O2", "-o", folder / name, HERE / f"{name}.c"], check=True)
        made.append(folder / name)
    return made[0], made[1]


def body(mode: Mode, prefix: str = "") -> bytes:
    messages = [
        {"role": "system", "content": "You answer the customers of a shop, briefly and kindly. " * 6},
        {"role": "user", "content": CONTENT},
    ]
    request: dict[str, Any] = {"model": prefix + mode.model, "messages": messages, "temperature": 0, "max_tokens": 200}
    if mode.stream:
        request["stream"] = True
    encoded = json.dumps(request, separators=(",", ":")).encode()
    return encoded.replace(b"#" * 8, b"TT-48213") if mode.repeated else encoded


def tree(root: int) -> list[int]:
    """``root`` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
                parents.setdefault(int(stat[1]), []).append(int(entry))
    found, queue = [], [root]
    while queue:
        found.append(queue.pop())
        queue += parents.get(found[-1], [])
    return found


def cpu_s(root: int) -> float:
    """CPU seconds of the process tree so far, children that have ended included."""
    ticks = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(int(value) for value in stat[11:15])
    return ticks / TICKS


def memory_mib(root: int) -> float:
    """Proportional memory of the process tree."""
    kib = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / 1024


@contextlib.contextmanager
def running(command: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[int]:
    """A process of its own session; at the end it and its children are told to stop, then made to."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True
        )
        try:
            yield process.pid
        finally:
            for sign, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 8.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
                    break


def await_answer(port: int, headers: tuple[str, ...], log: Path, peer: Peer | None = None) -> float:
    """Seconds until the first 200. Raises RuntimeError with the end of the log when none comes."""
    path, prefix = (peer.path, peer.prefix) if peer is not None else (PATH, "")
    began = time.monotonic()
    said = ""
    named = dict(header.split(": ", 1) for header in ("content-type: application/json", *headers))
    while time.monotonic() - began < START_S:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("POST", path, body(ONE_SHOT, prefix), named)
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read(300)!r}"
            if answer.status == 200:
                return time.monotonic() - began
        except OSError as error:
            said = str(error)
        finally:
            connection.close()
        time.sleep(0.05)
    raise RuntimeError(f"no 200 within {START_S:g} s: {said}\n{log.read_text(errors='replace')[-2000:]}")


def load(tool: Path, peer: Peer, mode: Mode, seconds: float, folder: Path) -> dict[str, float]:
    file = folder / "body.json"
    file.write_bytes(body(mode, peer.prefix))
    connections = min(mode.connections, peer.most_connections)
    command = [str(tool), str(peer.port), str(connections), str(seconds), str(mode.rate), str(file), peer.path]
    answer = subprocess.run([*command, *peer.headers], check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(answer.stdout)
    if result["bad"] or result["broken"] or not result["good"]:
        raise RuntimeError(f"{peer.name}, {mode.name}: not every request was answered: {result}")
    return result


def cpu_per_thousand(tool: Path, peer: Peer, mode: Mode, runs: int, seconds: float, folder: Path) -> list[float]:
    """CPU milliseconds per 1,000 requests (the same number as microseconds per request), one value a run."""
    load(tool, peer, mode, min(seconds, 1.0), folder)
    values = []
    for _ in range(runs):
        before = cpu_s(peer.pid)
        result = load(tool, peer, mode, seconds, folder)
        time.sleep(0.3)  # what is done after the answer (recording) belongs to the request
        values.append((cpu_s(peer.pid) - before) * 1e6 / result["good"])
    return values


def added_latency(tool: Path, peer: Peer, direct: Peer, runs: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds added at a low constant rate, p50 and p99 of every run, over the model server's own best run."""
    mode = dataclasses.replace(ONE_SHOT, connections=16, rate=peer.low_rate)
    pairs = [(load(tool, direct, mode, 2, folder), load(tool, peer, mode, 2, folder)) for _ in range(runs)]
    return {
        quantile: [(through[name] - min(alone[name] for alone, _ in pairs)) / 1000 for _, through in pairs]
        for quantile, name in (("p50", "total_p50"), ("p99", "total_p99"))
    }


# --- the gateways -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[Peer]:
    port = free_port()
    temporary = "".join(
        f" {kind}_temp_path {folder}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;"
        "events { worker_connections 1024; }"
        f"http {{ access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k;{temporary}"
        f" upstream model {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}"
        f" server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://model; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; proxy_buffering off; } } }\n',
        encoding="utf-8",
    )
    log = folder / "nginx.out"
    with running(["nginx", "-c", str(config)], log) as pid:
        await_answer(port, (), log)
        yield Peer("nginx", port, pid)


@contextlib.contextmanager
def litellm(upstream: int, folder: Path, python: str) -> Iterator[Peer]:
    port = free_port()
    models = "".join(
        f"  - model_name: {name}\n    litellm_params: {{model: openai/{name}, "
        f'api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}\n'
        for name in ("plain", "paced")
    )
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n{models}general_settings: {{master_key: {LITELLM_KEY}}}\n"
        "litellm_settings: {set_verbose: false, json_logs: false}\n",
        encoding="utf-8",
    )
    command = [str(Path(python).with_name("litellm")), "--config", str(config), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    log = folder / "litellm.out"
    headers = (f"authorization: Bearer {LITELLM_KEY}",)
    with running([*command], log, env, folder) as pid:
        await_answer(port, headers, log)
        yield Peer("LiteLLM", port, pid, headers, low_rate=20, most_connections=16)


TENSORZERO = """
import sys, time
import tensorzero
from openai import OpenAI

client = OpenAI(api_key="none", base_url="http://127.0.0.1:1/v1")
client = tensorzero.patch_openai_client(client, config_file=sys.argv[1], async_setup=False)
print(client.base_url.port, flush=True)
time.sleep(1e6)
"""
"""TensorZero's gateway as its Python package serves it: a Rust server in this process, which itself does nothing."""


@contextlib.contextmanager
def tensorzero(upstream: int, folder: Path, python: str) -> Iterator[Peer]:
    config, script, log = folder / "tensorzero.toml", folder / "tensorzero_server.py", folder / "tensorzero.out"
    models = "".join(
        f'[models."{name}"]\nrouting = ["m"]\n[models."{name}".providers.m]\ntype = "openai"\nmodel_name = "{name}"\n'
        f'api_base = "http://127.0.0.1:{upstream}/v1/"\napi_key_location = "none"\n'
        for name in ("plain", "paced")
    )
    config.write_text(f"[gateway]\nobservability.enabled = false\n{models}", encoding="utf-8")
    script.write_text(TENSORZERO, encoding="utf-8")
    with running([python, str(script), str(config)], log) as pid:
        until = time.monotonic() + START_S
        while not (said := re.search(r"^(\d+)$", log.read_text(errors="replace"), re.MULTILINE)):
            if time.monotonic() > until:
                raise RuntimeError(f"TensorZero did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        peer = Peer(
            "TensorZero", int(said[1]), pid, path="/openai/v1/chat/completions", prefix="tensorzero::model_name::"
        )
        await_answer(peer.port, (), log, peer)
        yield peer


def install_peers(folder: Path) -> None:
    """LiteLLM and TensorZero, each in a virtual environment of its own, unless they are there."""
    for name, wanted in (("litellm", ["litellm[proxy]"]), ("tensorzero", ["tensorzero", "openai"])):
        if not (folder / name / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
            subprocess.run([str(folder / name / "bin" / "pip"), "install", "--quiet", *wanted], check=True)


@contextlib.contextmanager
def fairlead(upstream: int, folder: Path) -> Iterator[Peer]:
    port = free_port()
    log = folder / "fairlead.out"
    from fairlead.store import Store

    with Store.open(folder / "data") as store:
        _, secret = store.keys.create("benchmark", ["inference"])
    headers = (f"authorization: Bearer {secret}",)
    command = [sys.executable, "-m", "benchmarks.gateway", "--serve", str(port), str(upstream), str(folder / "data")]
    with running(command, log) as pid:
        await_answer(port, headers, log)
        yield Peer("Fairlead", port, pid, headers)
    with Store.open(folder / "data") as store:
        status = store.traces.status()
        print(f"fairlead recorded: {status}", file=sys.stderr)


EVERYTHING = """
fairlead: 1
name: benchmark
purpose: Measure a gateway.
users: {who: nobody}
risk: minimal
variants:
  - id: plain
    model: "http://127.0.0.1:PORT/v1#plain"
    price: {input_usd_per_million: 0.4, output_usd_per_million: 1.6}
  - id: paced
    model: "http://127.0.0.1:PORT/v1#paced"
    price: {input_usd_per_million: 0.4, output_usd_per_million: 1.6}
live: plain
budget: {per_day_usd: 1000, per_month_usd: 20000}
cache: {enabled: true}
limits:
  - {per: key, requests_per_minute: 100000000, tokens_per_minute: 100000000000, concurrent: 1000}
  - {per: tenant, requests_per_minute: 100000000, tokens_per_minute: 100000000000, concurrent: 1000}
  - {per: user, requests_per_minute: 100000000, tokens_per_minute: 100000000000, concurrent: 1000}
"""
"""Everything a use case can have on, with limits no benchmark meets."""


@contextlib.contextmanager
def everything(upstream: int, folder: Path) -> Iterator[Peer]:
    """`fairlead serve` as people run it, with all of it on."""
    port, project = free_port(), folder / "everything"
    log = folder / "everything.out"
    project.mkdir()
    (project / "fairlead.yaml").write_text(EVERYTHING.replace("PORT", str(upstream)), encoding="utf-8")
    from fairlead.store import Store

    with Store.open(project / ".fairlead") as store:
        _, secret = store.keys.create("benchmark", ["inference"])
    headers = (f"authorization: Bearer {secret}",)
    command = [sys.executable, "-m", "fairlead", "serve", "--project", str(project), "--port", str(port)]
    with running([*command, "--log-level", "warning"], log) as pid:
        await_answer(port, headers, log)
        yield Peer(EVERYTHING_ON, port, pid, headers)
    with Store.open(project / ".fairlead") as store:
        print(f"everything on, recorded: {store.traces.status()}", file=sys.stderr)
        if faults := store.ledger.reconcile("benchmark"):
            raise RuntimeError(f"the ledger does not agree: {faults}")


@contextlib.contextmanager
def thin(upstream: int, folder: Path) -> Iterator[Peer]:
    port = free_port()
    log = folder / "thin.out"
    command = [sys.executable, "-m", "benchmarks.gateway", "--serve-thin", str(port), str(upstream)]
    with running(command, log) as pid:
        await_answer(port, (), log)
        yield Peer(THIN, port, pid)


def run_server(app: Any, port: int, http: Any = "httptools") -> None:
    """``app`` on uvicorn as `fairlead serve` sets it up; ``http`` is its side of a connection."""
    import uvicorn

    options: dict[str, Any] = {"access_log": False, "server_header": False, "http": http}
    config = uvicorn.Config(app, host="127.0.0.1", port=port, loop="uvloop", log_level="warning", **options)
    uvicorn.Server(config).run()


def serve(port: int, upstream: int, data: Path) -> None:
    """Fairlead's data plane alone, as `fairlead serve` builds it: store, keys, masking, recording."""
    from fairlead.gateway import Gateway, Identity, Route, fronting, settle
    from fairlead.guard import KINDS, Masker
    from fairlead.providers.openai_compatible import OpenAICompatible
    from fairlead.settings import Settings
    from fairlead.store import Store

    with Store.open(data) as store:
        routes = {
            name: Route(
                name=name,
                upstream=OpenAICompatible(name, f"http://127.0.0.1:{upstream}/v1", name),
                model=name,
                variant=name,
                price=(400, 1600),
            )
            for name in ("plain", "paced")
        }
        gateway = Gateway(
            routes=routes,
            keys=store.keys,
            record=store.traces.append,
            settings=Settings(),
            mask=Masker(KINDS),
            identity=Identity("benchmark", "0" * 64),
        )
        settle()
        run_server(gateway, port, fronting(gateway))


def serve_thin(port: int, upstream: int) -> None:
    """The thinnest relay the same server and HTTP client allow: no keys, no checks, no records. Fairlead's floor."""
    import aiohttp

    session: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if not session:
            session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        message = await receive()
        url = f"http://127.0.0.1:{upstream}{PATH}"
        async with session[0].post(url, data=message["body"], headers={"content-type": "application/json"}) as answer:
            kept = ("content-type", "content-length")
            headers = [(name.encode(), answer.headers[name].encode()) for name in kept if name in answer.headers]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    run_server(app, port)


# --- the run ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Measured:
    """What one gateway showed: CPU by mode, added latency, memory."""

    cpu: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    latency: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    memory: float = 0.0


def measure(peer: Peer, direct: Peer, tool: Path, runs: int, seconds: float, folder: Path) -> Measured:
    found = Measured()
    for mode in (ONE_SHOT, BURST, PACED):
        found.cpu[mode.name] = cpu_per_thousand(tool, peer, mode, runs, seconds, folder)
        print(f"{peer.name}, {mode.name}: {[round(value, 1) for value in found.cpu[mode.name]]} us", file=sys.stderr)
    found.latency = added_latency(tool, peer, direct, runs, folder)
    found.memory = memory_mib(peer.pid)
    return found


def add_spread(report: Report, figure: str, values: list[float], unit: str, **extra: Any) -> None:
    report.add(figure, min(values), unit, n=len(values), low=min(values), high=max(values), **extra)


def add_inside(report: Report) -> None:
    """What the request path itself costs, called in process without sockets."""
    command = [sys.executable, "-m", "benchmarks.gateway_inside"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent)
    inside = json.loads(answer.stdout)
    report.add("Fairlead in process: one-shot request", inside["whole"], "us")
    report.add("Fairlead in process: its record", inside["whole_record"], "us")
    report.add("Fairlead in process: 53-event stream", inside["stream"], "us")
    report.add("Fairlead in process: its record (stream)", inside["stream_record"], "us")


def write(report: Report, found: dict[str, Measured]) -> int:
    """Fairlead's figures with their targets first, then every peer's own."""
    targets = {ONE_SHOT.name: "<= 200", PACED.name: "<= 2000"}
    peers = [name for name in found if name not in OURS]
    for own in OURS:
        for mode in (ONE_SHOT, BURST, PACED):
            ours, target = found[own].cpu[mode.name], targets.get(mode.name, "")
            add_spread(report, f"{own}: CPU, {mode.name}", ours, "us", target=target)
            for peer in peers:
                least = min(found[peer].cpu[mode.name])
                report.add(
                    f"{own} against {peer}: CPU, {mode.name}", min(ours) / least, "times", n=len(ours), peer=peer,
                    peer_value=least,
                )  # fmt: skip
    for name in peers:
        for mode in (ONE_SHOT, BURST, PACED):
            add_spread(report, f"{name}: CPU, {mode.name}", found[name].cpu[mode.name], "us")
    for name, measured in found.items():
        rate = 20 if name == "LiteLLM" else 100
        for quantile, values in measured.latency.items():
            target = {"p50": "<= 1", "p99": "<= 2"}[quantile] if name in OURS else ""
            add_spread(report, f"{name}: latency added at {rate}/s, {quantile}", values, "ms", target=target)
        report.add(f"{name}: memory after the load", measured.memory, "MiB")
    add_inside(report)
    return report.finish()


def measure_all(
    wanted: set[str], peers: Path | None, runs: int, seconds: float
) -> tuple[dict[str, Measured], list[str]]:
    """Every gateway that is wanted and there, one after the other; and those that are not, with how to get them."""
    pythons = {name: peers / name / "bin" / "python" for name in ("litellm", "tensorzero")} if peers is not None else {}
    there = {"nginx": shutil.which("nginx") is not None} | {
        name: name in pythons and pythons[name].exists() for name in ("litellm", "tensorzero")
    }
    how = {"nginx": "nginx (apt install nginx-light)", "litellm": "LiteLLM", "tensorzero": "TensorZero"}
    missing = [how[name] for name in how if name in wanted and not there[name]]
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server, tool = build(folder)
        upstream = free_port()
        direct = Peer("direct", upstream, stack.enter_context(running([str(server), str(upstream)], folder / "up.out")))
        await_answer(upstream, (), folder / "up.out")
        gateways: dict[str, Callable[[], contextlib.AbstractContextManager[Peer]]] = {
            "fairlead": lambda: fairlead(upstream, folder),
            "everything": lambda: everything(upstream, folder),
            "thin": lambda: thin(upstream, folder),
            "nginx": lambda: nginx(upstream, folder),
            "litellm": lambda: litellm(upstream, folder, str(pythons["litellm"])),
            "tensorzero": lambda: tensorzero(upstream, folder, str(pythons["tensorzero"])),
        }
        for kind, start in gateways.items():
            if kind in wanted and there.get(kind, True):
                try:
                    with start() as peer:
                        found[peer.name] = measure(peer, direct, tool, runs, seconds, folder)
                except RuntimeError as error:
                    if kind not in how:
                        raise
                    missing.append(f"{how[kind]} ({error})")  # of a peer that breaks, no figure is shown
    return found, missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run")
    parser.add_argument("--only", default=",".join(ALL), help="comma-separated gateways: %(default)s")
    parser.add_argument("--peers", type=Path, default=os.environ.get("BENCH_PEERS"),
                        help="folder with the virtual environments of LiteLLM and TensorZero")  # fmt: skip
    parser.add_argument("--install-peers", type=Path, metavar="PEERS", help="install them there first (0.9 GB)")
    parser.add_argument("--serve-thin", nargs=2, metavar=("PORT", "UPSTREAM"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=3, metavar=("PORT", "UPSTREAM", "DATA"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(int(given.serve[0]), int(given.serve[1]), Path(given.serve[2]))
        return 0
    if given.serve_thin:
        serve_thin(int(given.serve_thin[0]), int(given.serve_thin[1]))
        return 0
    if given.install_peers:
        install_peers(given.install_peers)
    peers = given.install_peers or (Path(given.peers) if given.peers else None)
    found, missing = measure_all(set(given.only.split(",")), peers, given.runs, given.seconds)
    note = (
        "CPU of the gateway's process tree per request: the least disturbed of n runs, and the spread up to the most "
        "disturbed one (whatever else a machine does can only add). No two requests are the same. Fairlead: keys, "
        "checks, masking and recording. Everything on: `fairlead serve` with limits of key, tenant and user, two "
        "budgets and a cache that never hits as well. Thin relay: the same server and HTTP client and nothing else. "
        "nginx passes bytes through. LiteLLM: one worker, master key, no database, nothing recorded, at most 16 "
        "connections. TensorZero (archived): its Rust gateway from the Python package, nothing recorded."
    )
    if missing:
        note += " Not measured here: " + "; ".join(missing) + "."
    if not {"Fairlead", EVERYTHING_ON} <= found.keys():
        print(json.dumps({name: dataclasses.asdict(measured) for name, measured in found.items()}, indent=1))
        return 0
    return write(Report("gateway", note=note), found)


if __name__ == "__main__":
    sys.exit(main())
