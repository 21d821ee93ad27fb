"""What a start does not load: a server and a help must not wait for what only some commands and pages use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from typer.main import get_command

from fairlead.cli import COMMANDS, application

SHOP = Path(__file__).parents[2] / "examples" / "shop"
UNUSED = (
    "aiohttp", "alembic", "duckdb", "fairlead.batch.provider", "fairlead.console.site", "fairlead.evaluate",
    "fairlead.guard.sameness", "fairlead.select", "jinja2", "keyring", "litellm", "opentelemetry", "pandas", "pypdf",
    "scipy", "selectolax", "sklearn", "torch",
)  # fmt: skip
"""What a plain server can do without."""
SERVE = f"""
import asyncio, sys
from http.client import HTTPConnection
from pathlib import Path
from fairlead.cli.serve import running
from fairlead.settings import Settings

def get(url, path):
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", path)
    return connection.getresponse().status

async def serve():
    settings = Settings(project=Path(sys.argv[1]), port=0, require_key=False, host="127.0.0.1")
    async with running(settings) as (_, url):
        print(await asyncio.to_thread(get, url, "/healthz"), [name for name in {UNUSED!r} if name in sys.modules])
        pages = await asyncio.gather(*(asyncio.to_thread(get, url, "/chat") for _ in range(4)))
        print(pages, "fairlead.console.site" in sys.modules, "fairlead.select" in sys.modules)

asyncio.run(serve())
"""


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_server_loads_the_pages_when_somebody_comes(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns(".fairlead"))
    file = shop / "fairlead.yaml"
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    definition["variants"] = [variant for variant in definition["variants"] if variant["id"] == "extractive"]
    file.write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    shown = run_python("-c", SERVE, str(shop))
    assert shown.stdout.splitlines() == ["200 []", "[200, 200, 200, 200] True True"], shown.stderr


def test_a_help_loads_no_command() -> None:
    script = """
import sys
from fairlead.cli import main
try:
    main(["--help"])
except SystemExit as ended:
    print("\\n", ended.code, sorted(name for name in sys.modules if name.startswith("fairlead.")))
"""
    shown = run_python("-c", script)
    needed = ["fairlead.cli", "fairlead.cli.output", "fairlead.errors", "fairlead.readable", "fairlead.settings"]
    assert shown.stdout.splitlines()[-1].strip() == f"0 {needed}", shown.stderr


def test_the_help_says_of_each_command_what_it_says_of_itself() -> None:
    full = get_command(application())
    commands = full.commands  # type: ignore[attr-defined]
    assert {name: commands[name].get_short_help_str(300) for name in commands} == {
        name: summary for name, (_, summary) in COMMANDS.items()
    }


def test_the_shell_is_still_told_how_a_line_goes_on() -> None:
    shown = run_python(
        "-m", "fairlead", _FAIRLEAD_COMPLETE="complete_bash", COMP_WORDS="fairlead keys cr", COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS="fairlead keys cr",
    )  # fmt: skip
    assert "create" in shown.stdout, shown.stderr
