"""Tasks played one after the other by one pair of models, with a log that lets a broken run go on, and the shares.

Knows no report.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.tau2_retail.agents import AGENTS, Address, Right, script
from benchmarks.tau2_retail.stage import Played, Stage, stage
from benchmarks.tau2_retail.tasks import Data, Task
from benchmarks.tau2_retail.users import ModelUser, ScriptedUser, User
from fairlead.spec.power import share_interval

SCRIPTED: Final = "scripted"
"""The agent that does what is right (``scripted:missing`` and the like do wrong), or the user who says yes to all."""
REFUSING: Final = "refusing"
"""The scripted customer who says no to every question."""


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays: ``agent`` and ``user`` are model lines, or one of the scripted ones."""

    agent: str = SCRIPTED
    user: str = SCRIPTED
    seed: int = 0

    @property
    def scripted(self) -> str:
        """The scripted model's kind; empty when a model answers."""
        kind, _, how = self.agent.partition(":")
        return (how or "right") if kind == SCRIPTED else ""


class Log:
    """Finished tasks, a JSON line each. What stands in it is not played again; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Played] = {}
        if path is not None and path.exists():
            lines = path.read_bytes().splitlines()
            for number, line in enumerate(lines):
                try:
                    entry = msgspec.json.decode(line, type=_Entry)
                except msgspec.DecodeError:
                    if number + 1 < len(lines):  # a last line may have been cut off with the run
                        raise
                    path.write_bytes(b"".join(each + b"\n" for each in lines[:-1]))
                    break
                self._known[_key(entry.cast, entry.trial, entry.played.task)] = entry.played

    def get(self, cast: Cast, trial: int, task: str) -> Played | None:
        """What came of a task before."""
        return self._known.get(_key(cast, trial, task))

    def add(self, cast: Cast, trial: int, played: Played) -> None:
        """Keep what came of a task."""
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(_Entry(cast=cast, trial=trial, played=played)) + b"\n")
                file.flush()
                os.fsync(file.fileno())


class _Entry(msgspec.Struct, frozen=True):
    cast: Cast
    trial: int
    played: Played


def _key(cast: Cast, trial: int, task: str) -> str:
    return msgspec.json.encode([cast, trial, task]).decode()


async def play_all(
    data: Data,
    tasks: Sequence[Task],
    cast: Cast,
    *,
    trials: int = 1,
    log: Log | None = None,
    step: Callable[[Played], Any] = lambda _: None,
) -> list[Played]:
    """Every task ``trials`` times. ``step`` is told of each that is finished."""
    log = log or Log(None)
    found = []
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = await stack.enter_async_context(Address()) if cast.scripted else None
        line = f"{address.url}#scripted" if address is not None else cast.agent
        user = "" if cast.user in {SCRIPTED, REFUSING} else cast.user
        scene: Stage | None = None
        for trial in range(trials):
            for task in tasks:
                played = log.get(cast, trial, task.id)
                if played is None:
                    if scene is None:
                        scene = await stack.enter_async_context(
                            stage(data, folder, agent=line, user=user, seed=cast.seed)
                        )
                    if address is not None:
                        with scene.shop() as shop:
                            address.model = script(cast.scripted, task, shop, cast.seed + trial)
                    played = await scene.play(task, _user(task, cast, scene))
                    if address is not None and isinstance(address.model, Right):
                        played = msgspec.structs.replace(played, unseen=address.model.unseen)
                    log.add(cast, trial, played)
                found.append(played)
                step(played)
    return found


def _user(task: Task, cast: Cast, scene: Stage) -> User:
    if cast.user in {SCRIPTED, REFUSING}:
        return ScriptedUser(task, agrees=cast.user == SCRIPTED)
    return ModelUser(task, scene.app.gateway, "user")


def pass_k(played: Sequence[Played], k: int) -> float:
    """The share of tasks that are passed in each of ``k`` trials, estimated without bias from all trials (tau-bench).

    Raises ValueError when a task has fewer trials than ``k``.
    """
    shares = []
    for results in _by_task(played).values():
        if len(results) < k:
            raise ValueError(f"pass^{k} needs {k} trials of each task, found {len(results)}")
        shares.append(math.comb(sum(results), k) / math.comb(len(results), k))
    return statistics.fmean(shares) if shares else 0.0


def interval(played: Sequence[Played]) -> tuple[float, float]:
    """The 95 % interval of pass^1: Wilson's for one trial of each task, else from the spread over the tasks."""
    tasks = list(_by_task(played).values())
    if all(len(results) == 1 for results in tasks):
        return share_interval(sum(sum(results) for results in tasks), len(tasks))
    means = [statistics.fmean(results) for results in tasks]
    half = 1.96 * statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 1.0
    middle = statistics.fmean(means)
    return max(0.0, middle - half), min(1.0, middle + half)


def _by_task(played: Sequence[Played]) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = defaultdict(list)
    for each in played:
        found[each.task].append(each.passed)
    return found


def agents() -> list[str]:
    """The scripted agents, as ``--model`` takes them."""
    return [SCRIPTED, *(f"{SCRIPTED}:{kind}" for kind in AGENTS if kind != "right")]
