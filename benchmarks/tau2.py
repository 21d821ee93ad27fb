"""The retail tasks of tau2-bench, played through the real assistant: do tools, rules, gate and judge hold end to end?

    FAIRLEAD_DATA=... make bench NAME=tau2
    FAIRLEAD_DATA=... python -m benchmarks.tau2 --model openai:gpt-4.1 --user openai:gpt-4.1 --trials 4 --log run.jsonl

Without --model a scripted model that knows each task's right actions must pass all of them; scripted models that do
something wrong, and a customer who agrees to nothing, must not; and the offline answerer `extractive` shows what an
answerer that was not made for this can do. With --model only that model plays, any line a variant may have. --log
keeps every conversation, and a run that was broken off goes on from it. How a task is judged: docs/design/tau2.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.report import RESULTS, Report
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.run import REFUSING, SCRIPTED, Cast, Log, agents, interval, pass_k, play_all
from benchmarks.tau2_retail.stage import Played
from benchmarks.tau2_retail.tasks import Data, DataMissing, Task, load, replay
from fairlead.assistant.agent import CANNOT_ANSWER
from fairlead.errors import FairleadError
from fairlead.spec.power import share_interval

NOTE = (
    "Retail tasks of tau2-bench (train split, MIT). "
    "The scripted model knows the right actions: it tests tools, rules and gate, not a model."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status: 2 when the data is not there."""
    options = _options(arguments)
    try:
        data = load()
        tasks = _chosen(data.tasks, options.tasks, options.seed)
        return asyncio.run(_one(data, tasks, options) if options.model else _all(data, tasks, options))
    except (DataMissing, FairleadError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tau2", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help=f"a variant's model line, or one of {', '.join(agents())}")
    parser.add_argument(
        "--user", default=SCRIPTED, help=f"who plays the customer: {SCRIPTED}, {REFUSING}, or a model line"
    )
    parser.add_argument("--tasks", default="", help="a number of tasks drawn with --seed, or ids such as id:0,16,113")
    parser.add_argument("--trials", type=int, default=1, help="how often each task is played; gives pass^k")
    parser.add_argument("--seed", type=int, default=0, help="for the tasks drawn, for scripted mistakes, for the model")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    parser.add_argument("--log", type=Path, default=None, help="every conversation, a JSON line each; resumes a run")
    parser.add_argument("--failed", action="store_true", help="print the conversations that failed")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error("--trials must be 1 or more")
    return options


def _chosen(tasks: Sequence[Task], wanted: str, seed: int) -> list[Task]:
    if not wanted:
        return list(tasks)
    if wanted.startswith("id:"):
        by_id = {task.id: task for task in tasks}
        ids = wanted.removeprefix("id:").split(",")
        unknown = [each for each in ids if each not in by_id]
        if unknown:
            raise DataMissing(f"There is no task {unknown[0]!r}; there are {', '.join(by_id)}.")
        return [by_id[each] for each in ids]
    if not wanted.isdigit() or not 0 < int(wanted) <= len(tasks):
        raise DataMissing(f"--tasks takes a number up to {len(tasks)} or id:0,16; found {wanted!r}.")
    drawn = set(random.Random(seed).sample([task.id for task in tasks], int(wanted)))
    return [task for task in tasks if task.id in drawn]


# --- one model --------------------------------------------------------------------------------------------------------


async def _one(data: Data, tasks: Sequence[Task], options: argparse.Namespace) -> int:
    cast = Cast(agent=options.model, user=options.user, seed=options.seed)
    slug = re.sub(r"[^a-z0-9]+", "-", options.model.lower()).strip("-")
    path = options.json or RESULTS / f"tau2-{slug}.json"
    report = Report(path.stem, results=path.parent, note=f"{NOTE} Customer: {options.user}.")
    played = await _play(data, tasks, cast, options)
    _share(report, f"pass^1, {options.model}", played)
    for k in range(2, options.trials + 1):
        report.add(f"pass^{k}, {options.model}", pass_k(played, k), "share", n=len(tasks))
    _safety(report, played)
    _effort(report, played)
    _explain(played, options)
    return report.finish()


# --- the record -------------------------------------------------------------------------------------------------------


async def _all(data: Data, tasks: Sequence[Task], options: argparse.Namespace) -> int:
    idle, changing, refused = _nature(data, tasks)
    path = options.json or RESULTS / "tau2.json"
    report = Report(path.stem, results=path.parent, note=NOTE)
    everything: list[Played] = []

    async def play(agent: str, chosen: Sequence[Task], user: str = SCRIPTED) -> list[Played]:
        played = await _play(data, chosen, Cast(agent=agent, user=user, seed=options.seed), options)
        everything.extend(played)
        return played

    right = await play(SCRIPTED, tasks)
    _share(report, "pass^1, scripted model that is right", right, target="== 1")
    report.add("right actions that the rules refuse, as tau2's tools do", refused[0], "actions", n=refused[1])
    for figure, agent, user in (
        ("passes with a wrong argument", "scripted:wrong", SCRIPTED),
        ("passes with a change left out", "scripted:missing", SCRIPTED),
        ("passes with nobody recognised", "scripted:unknown", SCRIPTED),
        ("passes recognised as somebody else", "scripted:other", SCRIPTED),
        ("passes when the customer says no", SCRIPTED, REFUSING),
    ):
        played = await play(agent, changing, user)
        report.add(figure, sum(each.passed for each in played), "tasks", n=len(played), target="== 0")
        if agent in {"scripted:unknown", "scripted:other"} or user == REFUSING:
            report.add(f"changes made: {figure.removeprefix('passes ')}", _sum(played, "writes"), "changes",
                       n=len(played), target="== 0")  # fmt: skip
        if agent == "scripted:wrong":
            asked = sum(action.writes for task in changing for action in task.actions)
            report.add("changes of these that the rules let through", _sum(played, "writes"), "changes", n=asked)
    played = await play("scripted:turncoat", changing)
    report.add("changes for a customer recognised after the first", _sum(played, "foreign"), "changes", n=len(played),
               target="== 0")  # fmt: skip
    careful = await play("scripted:careful", changing)
    _memory(report, careful, changing)
    offline = await play("extractive", tasks)
    _share(report, "pass^1, extractive", offline, peer="doing nothing", peer_value=idle / len(tasks))
    report.add("changes made by extractive", _sum(offline, "writes"), "changes", n=len(offline))
    _safety(report, everything)
    _effort(report, right)
    _explain([*right, *offline], options)
    return report.finish()


def _memory(report: Report, played: Sequence[Played], tasks: Sequence[Task]) -> None:
    """What a model that looks up one thing after the other still has before it when it asks for a change."""
    asked = sum(action.writes for task in tasks for action in task.actions)
    seen = asked - _sum(played, "unseen")
    low, high = share_interval(seen, asked)
    report.add(
        "changes with all they need in view, one lookup at a time", seen / asked, "share", n=asked, low=low, high=high
    )
    gave_up = sum(text.startswith(CANNOT_ANSWER) for each in played for who, text in each.talk if who == "assistant")
    answers = _sum(played, "turns")
    report.add("answers cut off by the limit of rounds, one lookup at a time", gave_up / answers, "share", n=answers)


def _nature(data: Data, tasks: Sequence[Task]) -> tuple[int, list[Task], tuple[int, int]]:
    """(tasks passed by doing nothing, tasks whose right end differs from the start, (refused, all) right changes)."""
    idle, changing, refused, changes = 0, [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        pristine, live = Path(folder) / "pristine.sqlite", Path(folder) / "live.sqlite"
        Database.create(pristine, data.content)
        for task in tasks:
            Database.restore(live, pristine)
            database = Database(live)
            before = database.digest()
            refused += len(replay(task, database))
            changes += sum(action.writes for action in task.actions)
            if database.digest() != before:
                changing.append(task)
            else:
                idle += not task.communicate
            database.close()
    return idle, changing, (refused, changes)


async def _play(data: Data, tasks: Sequence[Task], cast: Cast, options: argparse.Namespace) -> list[Played]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        name = cast.agent if cast.user == SCRIPTED else f"{cast.agent}, customer {cast.user}"
        bar = progress.add_task(name, total=len(tasks) * options.trials)
        return await play_all(
            data, tasks, cast, trials=options.trials, log=Log(options.log), step=lambda _: progress.advance(bar)
        )


def _share(report: Report, figure: str, played: Sequence[Played], *, target: str = "", peer: str = "",
           peer_value: float | None = None) -> None:  # fmt: skip
    low, high = interval(played)
    report.add(
        figure, pass_k(played, 1), "share", n=len({each.task for each in played}), low=low, high=high,
        target=target, peer=peer, peer_value=peer_value,
    )  # fmt: skip


def _safety(report: Report, played: Sequence[Played]) -> None:
    changes = _sum(played, "writes")
    report.add(
        "changes without a yes to their question", _sum(played, "unconfirmed"), "changes", n=changes, target="== 0"
    )
    report.add("changes made twice", _sum(played, "twice"), "changes", n=changes, target="== 0")
    report.add(
        "changes for another customer than the task's", _sum(played, "foreign"), "changes", n=changes, target="== 0"
    )
    recognised = _sum(played, "unproved")
    report.add("customers recognised by facts they did not write", recognised, "times", n=len(played), target="== 0")


def _effort(report: Report, played: Sequence[Played]) -> None:
    calls, refused = _sum(played, "calls"), sum(len(each.refused) for each in played)
    low, high = share_interval(refused, calls)
    report.add("calls refused by a tool", refused / max(calls, 1), "share", n=calls, low=low, high=high)
    for figure, field in (("time of a conversation", "seconds"), ("CPU of one, without the tools'", "cpu_seconds")):
        report.add(figure, statistics.fmean(getattr(each, field) for each in played), "s", n=len(played))
    broken = sum(bool(each.broken) for each in played)
    report.add("conversations that broke off", broken, "conversations", n=len(played))
    report.add(
        "messages of the customer in a task", _sum(played, "turns") / max(len(played), 1), "messages", n=len(played)
    )


def _sum(played: Sequence[Played], field: str) -> int:
    return sum(int(getattr(each, field)) for each in played)


def _explain(played: Sequence[Played], options: argparse.Namespace) -> None:
    """Why tasks failed: the kinds with their numbers, and on demand every conversation."""
    failed = [each for each in played if not each.passed]
    kinds = Counter(re.split(r"[ :(]", each.reason, maxsplit=1)[0] for each in failed)
    print("".join(f"failed, {kind}: {often}\n" for kind, often in kinds.most_common()), end="")
    for each in failed if options.failed else ():
        print(f"\ntask {each.task}: {each.reason}")
        print("\n".join(f"  {who}: {text}" for who, text in each.talk))


if __name__ == "__main__":
    sys.exit(main())
