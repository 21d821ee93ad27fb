"""A program of somebody else that serves HTTP, kept on our lifeline: it ends when we do, however we end.

Started by an engine as ``python -m fairlead.engines.program_child``. The program gets its arguments and secrets over
the lifeline (secrets as environment variables, never as arguments); it must listen where ``{port}`` in its arguments
says, on loopback, and answer ``GET /health`` with 200 once it can work. Knows no particular program.

The program may start processes of its own, which no death signal of ours reaches: vLLM's outlive it. So a guardian,
forked first of all, waits until this process is gone and then ends the whole group.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

from fairlead.engines.lifeline import Lifeline, die_with_parent


def main() -> int:
    """Run the program until it ends, until SIGTERM, or until the parent is gone. Its exit status is ours."""
    lifeline = Lifeline()
    guard_group()  # before there is a second thread, which a fork would leave half
    config = lifeline.receive()
    port = free_port()
    argv = [part.replace("{port}", str(port)) for part in config["argv"]]
    try:
        program = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            env={**_environment(config["python_path"]), **config["secrets"]},
            # It must not outlive this process, whose end is that of the parent.
            preexec_fn=die_with_parent,
        )
    except OSError as error:
        lifeline.report(error=f"{argv[0]} cannot be run: {error.strerror}")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline.report(listening=f"http://127.0.0.1:{port}")
    status = program.wait()
    return status if status >= 0 else 128 - status


def free_port() -> int:
    """A port nobody listens on now. Another may take it in between: then the program ends and is started again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def guard_group() -> None:
    """Fork a process that kills our process group, itself with it, as soon as we are gone, however that came about."""
    if os.getpgrp() != os.getpid():  # not started by the supervisor: the group is somebody else's
        return
    waits, held = os.pipe()  # no program that is started inherits it: its other end closes with us alone
    if os.fork():
        os.close(waits)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(0, waits)  # the lifeline and the log, whose ends others wait for
    os.closerange(waits + 1, held + 1)
    os.read(waits, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def config_of(argv: list[str], secrets: dict[str, str]) -> dict[str, Any]:
    """What goes over the lifeline. The program has a Python of its own, which must not find our packages."""
    return {"argv": argv, "secrets": secrets, "python_path": os.environ.get("PYTHONPATH", "")}


def _environment(python_path: str) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**found, **({"PYTHONPATH": python_path} if python_path else {})}


if __name__ == "__main__":
    sys.exit(main())
