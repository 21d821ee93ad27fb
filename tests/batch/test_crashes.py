"""Killed while its files are made, and a disk that is full: a batch ends as it would have, with each line once."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.batch import live
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from fairlead.store import Store
from tests.batch.batch_harness import Place, chat, content, opened, served, submit, wait
from tests.gateway.gateway_harness import await_true
from tests.store.store_helpers import run_script

DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from fairlead.batch import live, runner
from tests.batch.batch_harness import Place, opened
from tests.batch.test_crashes import model

folder, point = Path(sys.argv[1]), sys.argv[2]

live.GRACE_S = 0.2

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(function, at):
    calls = []
    def called(*arguments, **named):
        calls.append(1)
        if at == (len(calls), "before"):
            die()
        answer = function(*arguments, **named)
        if at == (len(calls), "after"):
            die()
        return answer
    return called

async def main():
    with opened(folder) as store:
        place = Place(store, model())
        batches = store.batches
        if point == "status":
            change = batches.change
            def changing(batch, values, **only):
                answer = change(batch, values, **only)
                if values.get("status") == "finalizing":
                    die()
                return answer
            batches.change = changing
        elif point == "half written":
            runner.Results.write = dying_half
        elif point == "written":
            runner.place = dying(runner.place, (1, "before"))
        elif point == "output placed":
            runner.place = dying(runner.place, (1, "after"))
        elif point == "both placed":
            runner.place = dying(runner.place, (2, "after"))
        elif point == "before the row":
            batches.finish = dying(batches.finish, (1, "before"))
        elif point == "after the row":
            batches.finish = dying(batches.finish, (1, "after"))
        await place.worker.run()

def dying_half(results, output, errors, missing):
    output.write_bytes(b'{"half": ')
    errors.write_bytes(b"")
    die()

asyncio.run(main())
"""
POINTS = ["status", "half written", "written", "output placed", "both placed", "before the row", "after the row"]
ENDINGS = [*((point, "completed") for point in POINTS), *((point, "expired") for point in ("status", "both placed"))]
COUNT = 12


def model() -> Scripted:
    """Answers, refuses, or is never done, as it is told to."""

    def answer(call: Call) -> Script:
        said = call.body["messages"][-1]["content"]
        return Script(status=400, message="no") if said == "refuse" else Script(delay_s=600 if said == "never" else 0)

    return Scripted(script=answer)


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize(("point", "ending"), ENDINGS)
def test_killed_while_the_files_are_made_it_ends_as_it_would_have(
    folder: Path, point: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "GRACE_S", 0.2)
    said = ["refuse" if number % 4 == 3 else "Hello" for number in range(COUNT)]
    if ending == "expired":
        said[-3:] = ["never"] * 3
    with opened(folder) as store:
        idle = Place(store, window_s=4.0 if ending == "expired" else 86_400.0)
        idle.working = False
        with served(idle) as client:
            made = submit(client, [chat(f"r{number}", text) for number, text in enumerate(said)])
    process = run_script(DYING, folder, point)
    _, problems = process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL, problems
    with opened(folder) as store:
        place = Place(store, model())
        with served(place) as client:
            ended = wait(client, made)
            assert ended.status == ending
            good, bad = content(client, ended.output_file_id), content(client, ended.error_file_id)
            shown = {file.id for file in client.files.list()}
            await_true(lambda: not store.batches.folder(made.id).exists(), "its folder is cleared")
        names = sorted(line["custom_id"] for line in good + bad)
        assert names == sorted(f"r{number}" for number in range(COUNT)), "each once"
        late = {line["error"]["code"] for line in bad if line["error"]}
        assert late == ({"batch_expired"} if ending == "expired" else set())
        assert ended.request_counts is not None
        assert ended.request_counts.completed == len(good)
        asked = [call.body["messages"][-1]["content"] for call in place.upstream.calls]
        assert set(asked) <= {"never"}, "what was answered is not asked again"
        store.files.sweep(stale_s=-1.0)
        assert {path.name for path in (store.directory / "files").iterdir()} == shown, "nothing is left over"


@pytest.fixture(name="small_files")
def small_files_fixture() -> Iterator[int]:
    """No file of this process may grow beyond so many bytes: to whoever writes, a full disk."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 5_000_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def test_a_full_disk_is_told_and_what_was_answered_is_kept(folder: Path, small_files: int) -> None:
    long = "w" * 400_000
    with opened(folder) as store:
        place = Place(store, Scripted(script=lambda _: Script(text=long)), places=2)
        with served(place) as client:
            made = submit(client, [chat(f"r{number}") for number in range(20)])
            told = wait(client, made, lambda found: "full" in str((found.model_extra or {})["fairlead"]["note"]))
            assert told.status == "in_progress"
            await_true(lambda: _kept(store, made.id) > small_files - 500_000, "what there is room for is kept")
            before = len(place.upstream.calls)
            assert before < 20
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # somebody frees some space
            ended = wait(client, made)
            assert ended.status == "completed"
            assert (ended.model_extra or {})["fairlead"]["note"] is None, "and it says no more that it is full"
            good = content(client, ended.output_file_id)
        assert [line["custom_id"] for line in good] == [f"r{number}" for number in range(20)]
        assert len(place.upstream.calls) < 20 + before, "what was kept is not asked again"


def _kept(store: Store, batch: str) -> int:
    return sum(path.stat().st_size for path in store.batches.folder(batch).glob("*.answers"))
