"""`fairlead batch` as a person meets it: check, estimate, queue, follow, fetch; and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ran import Command

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture(name="batch")
def batch_fixture(run: Command) -> Command:
    """Runs `fairlead batch ...`."""
    return partial(run, "batch")


@pytest.fixture(name="worker")
def worker_fixture(shop: Path) -> Iterator[subprocess.Popen[str]]:
    """`fairlead batch work` in its own process, without the models that need one too."""
    command = [sys.executable, "-m", "fairlead", "batch", "work", "--project", str(shop)]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def write(path: Path, count: int, **changes: Any) -> Path:
    lines = []
    for number in range(count):
        body = {"model": "embed", "input": f"text {number}"}
        line = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/embeddings", "body": body, **changes}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_dry_run_counts_and_keeps_nothing(batch: Command, shop: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", 3)
    code, out, _ = batch("submit", file, "--project", shop, "--dry-run", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["requests"], told["model"], told["endpoint"]) == (3, "embed", "/v1/embeddings")
    assert told["input_tokens"] > 0
    assert told["cost"] == 0
    assert not (shop / ".fairlead").exists()


def test_a_file_that_cannot_run_is_refused_with_its_lines(batch: Command, shop: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", 2, custom_id="same")
    code, _, error = batch("submit", file, "--project", shop)
    assert code == 2
    assert f"{file}:2: The custom_id 'same' was used before." in error.replace("\n", " ")
    code, out, _ = batch("submit", file, "--project", shop, "--json")
    assert json.loads(out)["errors"][0]["code"] == "duplicate_custom_id"
    assert batch("submit", tmp_path / "none.jsonl", "--project", shop)[0] == 2
    file.write_text("")
    assert "empty" in batch("submit", file, "--project", shop)[2]


def test_from_submitting_to_fetching(batch: Command, shop: Path, tmp_path: Path, worker: subprocess.Popen[str]) -> None:
    file = write(tmp_path / "in.jsonl", 20)
    code, out, error = batch("submit", file, "--project", shop, "--wait", "--json", "--metadata", "team=north")
    assert code == 0, error
    made = json.loads(out)
    assert (made["status"], made["request_counts"]["completed"]) == ("completed", 20), made
    assert made["metadata"] == {"team": "north"}
    identifier = made["id"]
    assert "20 answered, 0 failed, of 20" in batch("show", identifier, "--project", shop)[1]
    assert [each["id"] for each in json.loads(batch("list", "--project", shop, "--json")[1])] == [identifier]
    folder = tmp_path / "answers"
    code, out, _ = batch("download", identifier, "--to", folder, "--project", shop, "--json")
    (written,) = json.loads(out)["files"]
    lines = [json.loads(line) for line in Path(written).read_text(encoding="utf-8").splitlines()]
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(20)]
    code, _, error = batch("download", identifier, "--to", folder, "--project", shop)
    assert code == 2
    assert "--force" in error
    assert batch("download", identifier, "--to", folder, "--force", "--project", shop)[0] == 0
    file = tmp_path / "file"
    file.touch()
    for place in (Path("/proc/x"), file / "below"):
        code, _, error = batch("download", identifier, "--to", place, "--project", shop)
        assert code == 2
        assert f"The folder {place} cannot be written" in error.replace("\n", " ")
        assert "--to" in error
    code, _, error = batch("resume", identifier, "--project", shop)
    assert code == 2
    assert "Every request" in error
    assert batch("cancel", identifier, "--project", shop)[0] == 2


def test_resuming_asks_only_what_is_left(batch: Command, shop: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", 5)
    made = json.loads(batch("submit", file, "--project", shop, "--json")[1])
    code, _, error = batch("download", made["id"], "--project", shop)
    assert code == 2
    assert "--watch" in error
    assert json.loads(batch("cancel", made["id"], "--project", shop, "--json")[1])["status"] == "cancelling"
    command = [sys.executable, "-m", "fairlead", "batch", "work", "--project", str(shop)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)
    try:
        end = time.monotonic() + 120
        while json.loads(batch("show", made["id"], "--project", shop, "--json")[1])["status"] != "cancelled":
            assert time.monotonic() < end
            time.sleep(0.1)
        code, out, _ = batch("resume", made["id"], "--project", shop, "--json")
        assert code == 0
        fresh = json.loads(batch("show", json.loads(out)["id"], "--watch", "--project", shop, "--json")[1])
        assert (fresh["status"], fresh["request_counts"]["completed"]) == ("completed", 5)
        assert fresh["metadata"]["continues"] == made["id"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.mark.parametrize("command", ["show", "cancel", "resume", "download"])
def test_a_batch_that_is_not_there(batch: Command, shop: Path, command: str) -> None:
    code, _, error = batch(command, "batch_nobody", "--project", shop)
    assert code == 2
    assert "batch_nobody" in error
