"""What the README shows works: the one-line change against a running server, the commands it names, its size claims."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fairlead.cli import COMMANDS
from tests.console.scene import serve

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LATER = {"deploy", "tune", "monitor", "release", "govern", "plan", "bench"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_one_line_change_gives_a_grounded_answer(tmp_path: Path) -> None:
    (example,) = blocks("python")
    with serve(tmp_path) as scene:
        assert "http://127.0.0.1:8080/v1" in example
        code = example.replace("http://127.0.0.1:8080", scene.url).replace("fl-...", scene.plain_key)
        names: dict[str, object] = {}
        exec(compile(code, "README.md", "exec"), names)
        names["client"].close()  # type: ignore[attr-defined]
    answer = names["answer"]
    assert "working days" in answer.choices[0].message.content  # type: ignore[attr-defined]


def test_every_command_in_a_shell_block_exists() -> None:
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["fairlead"]:
                assert words[1] in COMMANDS, line
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line


def test_a_step_that_is_not_built_says_so() -> None:
    for row in re.findall(r"^\| \d .*$", README, re.MULTILINE):
        _, _, command, today, _ = (cell.strip() for cell in row.split("|"))
        named = set(re.findall(r"`fairlead (\w+)", command))
        if named & LATER:
            assert today.startswith("next"), row


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_no_page_speaks_of_a_machine_it_was_written_on(page: Path) -> None:
    assert not re.search(r"/work/|/root/|/home/\w", page.read_text(encoding="utf-8"))
