from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import uvloop

from fairlead.engines import served
from fairlead.engines.logs import RotatingLog
from fairlead.engines.supervisor import Launch, Limits, Supervisor
from fairlead.errors import EngineFailed, UpstreamUnreachable
from fairlead.providers.base import Call, CallContext, Reply

CHILD = Path(__file__).with_name("child_for_tests.py")
QUICK = Limits(
    start_s=60, grace_s=0.5, probe_every_s=0.05, probe_timeout_s=0.3, hung_s=30,
    backoff_first_s=0.01, backoff_max_s=0.05, restarts=3, stable_s=60,
)  # fmt: skip
Make = Callable[..., Supervisor]


@pytest.fixture
async def supervise(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Supervisor] = []

    def make(limits: Limits = QUICK, env: dict[str, str] | None = None, **config: Any) -> Supervisor:
        launch = Launch(argv=(sys.executable, str(CHILD)), config=config, env=env or {})
        supervisor = Supervisor("test", lambda: launch, RotatingLog(tmp_path / "test.log", file_bytes=20_000), limits)
        made.append(supervisor)
        return supervisor

    yield make
    for supervisor in made:
        await supervisor.stop()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def processes_below(pid: int) -> list[int]:
    """Children of a process, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def listens(address: str) -> bool:
    with socket.socket() as sock:
        url = urlsplit(address)
        return sock.connect_ex((url.hostname, url.port)) == 0


def pid_of(supervisor: Supervisor) -> int:
    pid = supervisor.health().pid
    assert pid is not None
    return pid


async def test_starts_answers_and_leaves_nothing(supervise: Make) -> None:
    supervisor = supervise()
    assert supervisor.health().state == "stopped"
    await supervisor.start()
    pid = pid_of(supervisor)
    assert supervisor.health().state == "ready"
    assert os.getpgid(pid) == pid != os.getpgid(0)
    await supervisor.start()
    assert pid_of(supervisor) == pid
    await supervisor.stop()
    await supervisor.stop()
    assert (supervisor.health().state, supervisor.health().pid) == ("stopped", None)
    assert not exists(pid)
    await supervisor.start()
    assert supervisor.health().state == "ready"


async def test_restarts_a_child_that_was_killed(supervise: Make) -> None:
    supervisor = supervise()
    await supervisor.start()
    first, address = pid_of(supervisor), supervisor.address
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.health().state == "restarting")
    assert "SIGKILL" in supervisor.health().detail
    assert supervisor.address == ""
    await until(lambda: supervisor.health().state == "ready")
    assert pid_of(supervisor) != first
    assert supervisor.address not in ("", address)
    assert supervisor.health().restarts == 1
    assert supervisor.generation == 2
    assert not exists(first)


async def test_each_end_and_each_return_is_logged(supervise: Make, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = supervise()
    await supervisor.start()
    assert caplog.messages == []
    for _ in range(2):
        os.kill(pid_of(supervisor), signal.SIGKILL)
        await until(lambda: supervisor.health().state == "restarting")
        await until(lambda: supervisor.health().state == "ready")
    await supervisor.stop()
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    first, second, third, fourth = caplog.messages
    assert "killed by SIGKILL" in first
    assert "restart 1 follows" in first
    assert "restart 2 follows" in third
    assert "ready again" in second
    assert "ready again" in fourth


class Echo:
    """An upstream that answers with the address it was made for, when something listens there."""

    def __init__(self, address: str) -> None:
        self.name = "echo"
        self.address = address

    async def open(self, call: Call) -> Reply:
        url = urlsplit(self.address)
        try:
            _, writer = await asyncio.open_connection(url.hostname, url.port)
        except OSError as error:
            raise UpstreamUnreachable(name=self.name, detail=str(error)) from error
        writer.close()
        await writer.wait_closed()
        return Reply(200, body=self.address.encode())

    async def aclose(self) -> None:
        pass


def call_within(seconds: float) -> Call:
    deadline = asyncio.get_running_loop().time() + seconds
    return Call(operation="chat", body={}, stream=False, deadline=deadline, context=CallContext())


async def test_a_call_during_a_short_restart_waits_for_it(supervise: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "PATIENCE_S", 60.0)  # a loaded machine takes its time to start a process
    supervisor = supervise()
    upstream = served.ServedUpstream(supervisor, Echo, at_once=2)
    await supervisor.start()
    before = (await upstream.open(call_within(60))).body
    first = pid_of(supervisor)
    os.kill(first, signal.SIGKILL)
    while alive(first) or listens(supervisor.address):  # one thread of it may be dead before another
        time.sleep(0.01)  # noqa: ASYNC251 - without the loop: the supervisor does not know its end yet
    assert supervisor.health().state == "ready"
    at_once = await upstream.open(call_within(60))
    assert at_once.body == supervisor.address.encode() != before
    os.kill(pid_of(supervisor), signal.SIGKILL)
    await until(lambda: supervisor.health().state == "restarting")
    with pytest.raises(UpstreamUnreachable, match="SIGKILL"):
        await upstream.open(call_within(0))
    await upstream.open(call_within(60))
    assert supervisor.health().restarts == 2


async def test_a_call_does_not_wait_for_a_late_restart(supervise: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "PATIENCE_S", 30.0)
    limits = msgspec.structs.replace(QUICK, backoff_first_s=90.0, backoff_max_s=90.0)
    supervisor = supervise(limits)
    upstream = served.ServedUpstream(supervisor, Echo, at_once=2)
    await supervisor.start()
    os.kill(pid_of(supervisor), signal.SIGKILL)
    await until(lambda: "follows in" in supervisor.health().detail)
    began = time.monotonic()
    with pytest.raises(UpstreamUnreachable, match="SIGKILL"):
        await upstream.open(call_within(60))
    assert time.monotonic() - began < served.PATIENCE_S / 2


async def test_a_child_that_cannot_start_fails_with_its_last_words(supervise: Make) -> None:
    supervisor = supervise(die_at_start=True, say="the tensors do not fit")
    with pytest.raises(EngineFailed, match=r"exit status 3\).*the tensors do not fit.*test.log"):
        await supervisor.start()
    health = supervisor.health()
    assert (health.state, health.pid, health.restarts) == ("failed", None, 0)


async def test_gives_up_after_the_cap_and_can_be_started_again(supervise: Make, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    supervisor = supervise(starts=str(starts), good_starts=1, say="poor thing")
    await supervisor.start()
    os.kill(pid_of(supervisor), signal.SIGKILL)
    await until(lambda: supervisor.health().state == "failed")
    assert int(starts.read_text()) == 1 + QUICK.restarts
    assert "given up after 3 restarts" in supervisor.health().detail
    assert "poor thing" in supervisor.health().detail
    starts.unlink()
    await supervisor.start()
    assert supervisor.health().state == "ready"


async def test_failures_are_forgotten_once_it_was_stable(supervise: Make) -> None:
    limits = Limits(
        grace_s=0.5, probe_every_s=0.05, backoff_first_s=0.01, backoff_max_s=0.02, restarts=1, stable_s=0.05
    )
    supervisor = supervise(limits)
    await supervisor.start()
    for number in range(3):
        await until(lambda: supervisor.health().state == "ready")
        await asyncio.sleep(2 * limits.stable_s)  # at least so long it was well
        os.kill(pid_of(supervisor), signal.SIGKILL)
        await until(lambda: supervisor.health().restarts > number)  # noqa: B023
    assert supervisor.health().state in ("ready", "restarting")


def test_back_off_grows_to_its_cap_with_jitter(tmp_path: Path) -> None:
    limits = Limits(backoff_first_s=0.1, backoff_max_s=3.0)
    supervisor = Supervisor("x", lambda: Launch(argv=(), config={}), RotatingLog(tmp_path / "x.log"), limits)
    for failures in range(1, 2000, 7):
        full = min(3.0, 0.1 * 2 ** min(failures - 1, 20))
        delays = {supervisor._delay(failures) for _ in range(20)}
        assert len(delays) > 1
        assert all(full / 2 <= delay <= full for delay in delays)


async def test_a_child_that_never_gets_ready_is_given_up_and_gone(supervise: Make, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    supervisor = supervise(Limits(start_s=5, grace_s=0.3), never_ready=True, grandchild=str(note))
    with pytest.raises(EngineFailed, match=r"not ready within 5 s"):
        await supervisor.start()
    grandchild = int(note.read_text())
    await until(lambda: not alive(grandchild))  # killed, the kernel may still be busy with it


async def test_a_child_that_hangs_is_restarted(supervise: Make) -> None:
    supervisor = supervise(msgspec.structs.replace(QUICK, hung_s=2.5))
    await supervisor.start()
    pid = pid_of(supervisor)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: supervisor.health().state == "restarting")
    assert "did not answer for 2.5 s" in supervisor.health().detail
    await until(lambda: supervisor.health().state == "ready")
    assert not exists(pid)


async def test_a_deaf_child_and_its_children_are_killed(supervise: Make, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    supervisor = supervise(deaf=True, grandchild=str(note))
    await supervisor.start()
    pid = pid_of(supervisor)
    began = time.monotonic()
    await supervisor.stop()
    assert QUICK.grace_s * 0.9 <= time.monotonic() - began < QUICK.grace_s + 30
    assert not exists(pid)
    grandchild = int(note.read_text())
    await until(lambda: not alive(grandchild))  # killed, the kernel may still be busy with it


async def test_stop_while_starting(supervise: Make) -> None:
    supervisor = supervise(never_ready=True)
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: supervisor.health().pid is not None)
    pid = pid_of(supervisor)
    await supervisor.stop()
    with pytest.raises(EngineFailed, match="stopped while it was starting"):
        await starting
    assert not exists(pid)


async def test_a_cancelled_start_leaves_nothing(supervise: Make) -> None:
    supervisor = supervise(never_ready=True)
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: supervisor.health().pid is not None)
    pid = pid_of(supervisor)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not exists(pid)
    assert supervisor.health().state == "stopped"


async def test_a_start_cancelled_at_any_moment_leaves_nothing(supervise: Make) -> None:
    """Cancelled after 0, 1, 2 ... turns of the loop and after some milliseconds, so in each of its steps."""
    ours = set(processes_below(os.getpid()))
    for turn in range(60):
        supervisor = supervise(QUICK)
        starting = asyncio.create_task(supervisor.start())
        for _ in range(min(turn, 30)):
            await asyncio.sleep(0)
        await asyncio.sleep(max(0, turn - 30) * 0.006)
        starting.cancel()
        await asyncio.wait([starting])
        await supervisor.stop()
        assert supervisor.health().pid is None
    gc.collect()  # a socket or a process that was forgotten warns, which fails the test
    await until(lambda: set(processes_below(os.getpid())) <= ours)


async def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "none.log")
    supervisor = Supervisor("none", lambda: Launch(argv=("/no/such/program",), config={}), log, QUICK)
    with pytest.raises(EngineFailed, match="could not be started"):
        await supervisor.start()
    await supervisor.stop()


async def test_a_mistake_while_launching_reaches_the_starter(tmp_path: Path) -> None:
    def launch() -> Launch:
        raise LookupError("a bug")

    supervisor = Supervisor("bug", launch, RotatingLog(tmp_path / "bug.log"), QUICK)
    with pytest.raises(LookupError):
        await supervisor.start()
    assert supervisor.health().state == "failed"
    await supervisor.stop()


async def test_the_child_sees_neither_secrets_nor_arguments(supervise: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    supervisor = supervise(key="private-key")
    await supervisor.start()
    process = Path(f"/proc/{pid_of(supervisor)}")
    visible = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    assert b"sk-secret" not in visible
    assert b"private-key" not in visible
    assert b"PATH=" in visible


async def test_a_flood_of_output_stays_within_its_bound(supervise: Make, tmp_path: Path) -> None:
    supervisor = supervise(flood=5000)
    await supervisor.start()
    await until(lambda: "line 4999" in supervisor.log.tail())
    sizes = {name: (tmp_path / name).stat().st_size for name in sorted(os.listdir(tmp_path))}
    assert list(sizes) == ["test.log", "test.log.1", "test.log.2"]
    assert max(sizes.values()) <= 20_000
    assert supervisor.health().state == "ready"


PARENT = """
import asyncio, sys
from pathlib import Path
from fairlead.engines.logs import RotatingLog
from fairlead.engines.supervisor import Launch, Supervisor

async def main():
    argv, config = (sys.executable, sys.argv[1]), {"deaf": True, "hang": False}
    supervisor = Supervisor("orphan", lambda: Launch(argv=argv, config=config, env=ENV), RotatingLog(Path(sys.argv[2])))
    await supervisor.start()
    print(supervisor.health().pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("env", [{}, {"TEST_WITHOUT_DEATH_SIGNAL": "1"}], ids=["signal", "end of file"])
async def test_no_orphan_after_the_parent_is_killed(env: dict[str, str], tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT.replace("ENV", repr(env)), str(CHILD), str(tmp_path / "log"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    assert alive(pid)
    parent.kill()
    await parent.communicate()
    await until(lambda: not alive(pid))


async def test_a_child_whose_parent_is_already_gone_leaves(tmp_path: Path) -> None:
    """The race: the parent dies between fork and prctl. The configuration then names another parent."""
    import json
    import socket

    ours, theirs = socket.socketpair()
    child = await asyncio.create_subprocess_exec(sys.executable, str(CHILD), stdin=theirs.fileno())
    theirs.close()
    ours.sendall(json.dumps({"parent": 1}).encode() + b"\n")
    assert await asyncio.wait_for(child.wait(), 60) == 75
    ours.close()


def test_under_the_loop_that_serves(tmp_path: Path) -> None:
    """The server runs on uvloop, whose processes and sockets are another implementation."""

    async def scenario() -> None:
        launch = Launch(argv=(sys.executable, str(CHILD)), config={"say": "hello"})
        supervisor = Supervisor("uv", lambda: launch, RotatingLog(tmp_path / "uv.log"), QUICK)
        await supervisor.start()
        first = pid_of(supervisor)
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.health().restarts == 1 and supervisor.health().state == "ready")
        second = pid_of(supervisor)
        await supervisor.stop()
        assert not exists(first)
        assert not exists(second)
        assert "hello" in supervisor.log.tail()

    uvloop.run(scenario())


def test_a_child_started_by_hand_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(CHILD)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "fairlead serve" in done.stderr


def test_a_log_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    log = RotatingLog(blocked / "x.log")
    log.write(b"hello\n")
    assert log.lost_bytes == 6
    assert log.tail() == "hello"


def test_a_log_rotates_and_continues_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    for number in range(30):
        log = RotatingLog(path, file_bytes=100, backups=2)
        log.write(f"message {number:03}\n".encode())
        log.close()
        log.close()
    assert path.stat().st_mode & 0o777 == 0o600
    kept = "".join(file.read_text() for file in (path.with_name("x.log.2"), path.with_name("x.log.1"), path))
    assert len(kept) > 200
    assert "".join(f"message {number:03}\n" for number in range(30)).endswith(kept)
    assert all(file.stat().st_size <= 100 for file in path.parent.iterdir())


def test_the_tail_is_bounded(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "x.log")
    log.write(b"x" * 1_000_000)
    for number in range(10_000):
        log.write(b"line %d\n" % number)
    assert log.tail(2) == "line 9998\nline 9999"
    assert sum(map(len, log._tail)) < 20_000
    log.close()
