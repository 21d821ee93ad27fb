"""Back end that is a command: anything with the contract of ``vllm run-batch`` (the same JSONL in, the same out).

The command line has ``{input}``, ``{output}`` and ``{model}`` in it. The output is read when the command has ended;
what an interrupted run has written is taken as well, and only the rest is given to the next. A run whose worker was
killed is ended before another begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from pathlib import Path

import orjson

from fairlead.batch.provider import take_lines
from fairlead.batch.work import BatchRefused, Price, Work, hide_user
from fairlead.errors import MachineError

GRACE_S = 20.0
PID = "command.pid"
_SAID = 400


class Command:
    """``line`` is the command line, ``model`` what it calls the model, ``price`` what the model costs,
    ``secret`` keys the stand-ins for users' names.
    """

    name = "command"
    share = 1.0

    def __init__(
        self,
        line: str,
        model: str,
        price: tuple[float, float] | None,
        secret: bytes,
    ) -> None:
        self._words = shlex.split(line)
        self._model = model
        self._price = Price(*price) if price is not None else None
        self._pseudonyms = secret

    async def answer(self, work: Work) -> None:
        """See Backend.answer."""
        folder = work.requests.path.parent
        source, target, log = (folder / name for name in ("sent.jsonl", "made.jsonl", "command.log"))
        _end_orphan(folder / PID)
        if target.exists():  # of a run that was interrupted
            await asyncio.to_thread(take_lines, work, target, self._price)
            target.unlink()
        if not await asyncio.to_thread(self._write, work, source):
            return
        status = await self._run(work, source, target, log)
        if target.exists():
            await asyncio.to_thread(take_lines, work, target, self._price)
            target.unlink()
        if status and not work.stop.is_set():
            said = log.read_text(encoding="utf-8", errors="replace")[-_SAID:].strip()
            raise MachineError(detail=f"The command {self._words[0]} ended with status {status}: {said or 'no word'}")
        if not work.stop.is_set() and any(True for _ in work.left()):
            work.note = f"The command {self._words[0]} left requests out."
            work.end("not_answered")

    async def _run(self, work: Work, source: Path, target: Path, log: Path) -> int:
        names = {"input": str(source), "output": str(target), "model": self._model}
        words = [_filled(word, names) for word in self._words]
        with log.open("wb") as said:
            try:
                process = await asyncio.create_subprocess_exec(
                    *words, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
                )
            except OSError as error:
                detail = f"The command {words[0]} cannot be started: {error.strerror}. Check `batch:` of the variant."
                raise BatchRefused(detail=detail) from error
            (source.parent / PID).write_text(f"{process.pid} {_started(process.pid)}", encoding="ascii")
            work.note = f"{words[0]} runs as process {process.pid}"
            ended = asyncio.create_task(process.wait())
            stopped = asyncio.create_task(work.stop.wait())
            try:
                await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                work.note = ""
                if process.returncode is None:
                    await _stop(process, ended)
        return process.returncode or 0

    def _write(self, work: Work, path: Path) -> int:
        """Write what is left; returns how many requests."""
        count = 0
        with path.open("wb") as target:
            for number in work.left():
                body = {
                    **hide_user(work.requests.read(number).body, work.batch.tenant, self._pseudonyms),
                    "model": self._model,
                }
                line = {"custom_id": str(number), "method": "POST", "url": work.batch.endpoint, "body": body}
                target.write(orjson.dumps(line) + b"\n")
                count += 1
        return count


async def _stop(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    """End the command and what it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        done, _ = await asyncio.wait({ended}, timeout=GRACE_S)
        if done:
            break


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: with its number it names the process for good. Empty: none such."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _end_orphan(note: Path) -> None:
    """End the command a killed worker left behind, if it is still the one it noted."""
    if note.exists():
        pid, _, started = note.read_text(encoding="ascii").partition(" ")
        note.unlink()
        if pid.isdigit() and started and _started(int(pid)) == started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)


def _filled(word: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        word = word.replace("{" + name + "}", value)
    return word
