"""Regenerate what the docs and the README generate, so that no command, setting or transcript is typed by hand.

``python docs/generate.py`` writes; ``python docs/generate.py --check`` exits 1 and names the files that are behind.
Generated parts stand between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from fairlead import settings
from fairlead.cli import COMMANDS, application
from fairlead.providers.facts import facts_of
from fairlead.spec import reference
from fairlead.spec.target import HOSTED

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
TERMINAL = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}


def settings_table() -> str:
    """Every setting as a Markdown table."""
    lines = ["| setting | environment | type | default | what it is |", "|---|---|---|---|---|"]
    for name, kind, default, text in settings.table():
        lines.append(f"| `{name}` | `{settings.ENV_PREFIX}{name.upper()}` | {kind} | `{default}` | {text} |")
    return "\n".join(lines)


def command_help() -> str:
    """``--help`` of every command, as a terminal 100 columns wide shows it."""
    parts = [_help()]
    group = get_command(application())
    for name in COMMANDS:
        parts.append(_help(name))
        command = group.commands[name]  # type: ignore[attr-defined]
        parts += [_help(name, sub) for sub in getattr(command, "commands", {})]
    return "\n\n".join(parts)


def _help(*words: str) -> str:
    shown = CliRunner().invoke(application(), [*words, "--help"], prog_name="fairlead", env=TERMINAL)
    if shown.exit_code:
        raise SystemExit(f"fairlead {' '.join(words)} --help: {shown.output}")
    title = " ".join(["fairlead", *words])
    body = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
    return f"### {title}\n\n```text\n{body}\n```"


def transcript() -> str:
    """What ``fairlead ask --file`` prints for the example's first customer messages, on a fresh store."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["ask", "--file", "data/messages.txt", "--conversation", "--limit", "9"]
        shown = subprocess.run(
            [sys.executable, "-m", "fairlead", *command, "--data-dir", folder],
            cwd=SHOP, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "110", "NO_COLOR": "1",
                 "SHOP_TODAY": "2026-11-20"},
        )  # fmt: skip
    return f"```text\n$ fairlead {' '.join(command)}\n{shown.stdout.strip()}\n```"


def real_messages() -> str:
    """How ``fairlead ask --file`` dealt with messages of public data sets, from the committed result."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "real_messages.json").read_text(encoding="utf-8"))["figures"]
    lines = []
    for name in dict.fromkeys(row["figure"].partition(":")[0] for row in rows):
        own = [row for row in rows if row["figure"].startswith(f"{name}: ")]
        failed = next(row for row in own if "failed" in row["figure"])
        acts = [f"{row['value']:.0f} {row['figure'].split()[-1]}" for row in own if ": act " in row["figure"]]
        lines.append(f"- {name}: {failed['n']} asked, {failed['value']:.0f} failed; {', '.join(acts)}")
    return "\n".join(lines)


def providers_table() -> str:
    """Who can be named in a ``model:`` line, and what is known of them."""
    known = {True: "yes", False: "no", None: "model"}
    lines = [
        "| `model:` | provider | key usually in | JSON schema | tools | cached tokens |",
        "|---|---|---|---|---|---|",
    ]
    for scheme, host in HOSTED.items():
        facts = facts_of(scheme)
        schema, tools, cache = (known[value] for value in (facts.json_schema, facts.tools, facts.cache))
        key = f"`{host.key}`" if host.key else "–"
        lines.append(f"| `{host.example}` | {host.title} | {key} | {schema} | {tools} | {cache} |")
    return "\n".join(lines)


def results() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(benchmark, its figures that have a target) of every committed result."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["figures"] if row["target"]]
        if rows:
            yield path.stem, rows


def figures() -> str:
    """Every figure that has a target, with what a peer reaches and whether it holds."""
    parts = []
    for name, rows in results():
        parts += [f"## {name}", "", "| figure | value | range | n | peer | target | holds |"]
        parts += ["|---|---:|---|---:|---|---|---|"]
        for row in rows:
            spread = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
            peer = "" if row["peer_value"] is None else f"{row['peer']} {row['peer_value']:.4g}"
            holds = "yes" if row["holds"] else "**no**"
            parts.append(
                f"| {row['figure']} | {row['value']:.4g} {row['unit']} | {spread} | {row['n']} | {peer} "
                f"| {row['target']} | {holds} |"
            )
        parts.append("")
    return "\n".join(parts).strip()


def missed() -> str:
    """How many figures hold, benchmark by benchmark, and by name those that do not."""
    lines = ["| benchmark | targets | held | missed |", "|---|---:|---:|---|"]
    for name, rows in results():
        late = [
            f"{row['figure']}: {row['value']:.4g} {row['unit']} ({row['target']})" for row in rows if not row["holds"]
        ]
        lines.append(f"| {name} | {len(rows)} | {len(rows) - len(late)} | {'<br>'.join(late)} |")
    return "\n".join(lines)


PARTS: dict[str, tuple[Path, Callable[[], str]]] = {
    "use-case-file": (ROOT / "docs" / "use-case-file.md", reference.render),
    "providers": (ROOT / "docs" / "providers.md", providers_table),
    "settings": (ROOT / "docs" / "settings.md", settings_table),
    "commands": (ROOT / "docs" / "commands.md", command_help),
    "transcript": (ROOT / "README.md", transcript),
    "figures": (ROOT / "docs" / "figures.md", figures),
    "missed": (ROOT / "README.md", missed),
    "real messages": (ROOT / "README.md", real_messages),
}


def behind(*, write: bool) -> list[str]:
    """Generated parts that differ from what stands in the files; with ``write`` they are brought up to date."""
    late = []
    for name, (path, make) in PARTS.items():
        text = path.read_text(encoding="utf-8")
        pattern = re.compile(rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{path.relative_to(ROOT)} has no place for the generated part {name!r}")
        made = make()
        fresh = pattern.sub(lambda match, made=made: f"{match[1]}{made}\n{match[2]}", text)  # type: ignore[misc]
        if fresh != text:
            late.append(f"{path.relative_to(ROOT)} ({name})")
            if write:
                path.write_text(fresh, encoding="utf-8")
    return late


if __name__ == "__main__":
    checking = "--check" in sys.argv
    stale = behind(write=not checking)
    for entry in stale:
        print(f"{'behind' if checking else 'written'}: {entry}")
    if checking and stale:
        raise SystemExit("Run: make docs")
