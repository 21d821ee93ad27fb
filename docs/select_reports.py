"""Make the reports in docs/select from real runs: ``python docs/select_reports.py shop`` or ``banking77``.

``shop`` needs nothing, ``banking77`` the folder of public data in FAIRLEAD_DATA. Each runs `fairlead` as a person
would, in a temporary project, and writes the report as a page. Public samples are not shown.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "select"
BANKING = """\
fairlead: 1
name: banking-intents
purpose: Say what a message to a bank is about, as one of 77 intents.
users: {who: customers of a bank}
risk: minimal
unit: inference
traffic: {conversations_per_day: 10000, turns_per_conversation: 1, input_tokens: 700, output_tokens: 6}
metrics:
  accuracy:
    definition: Share of messages whose intent is exactly the labelled one.
    level: inference
    type: bool
    direction: max
    source: "code:right_label"
objectives:
  - {id: accuracy, metric: accuracy, bound: ">= 0.80", kind: goal}
  - {id: wait, metric: total_latency, aggregation: p95, bound: "<= 1 s", kind: guardrail}
variants:
  - {id: mini, model: mini, prompt: prompt.md, sampling: {temperature: 0, max_tokens: 16}}
live: mini
"""


def fairlead(folder: Path, *arguments: str) -> int:
    """Run a command in ``folder``, as shown in the report; its exit status."""
    print("$ fairlead", *arguments, flush=True)
    return subprocess.run([sys.executable, "-m", "fairlead", *arguments], cwd=folder, check=False).returncode


def shop(folder: Path) -> list[str]:
    """The reference shop: its questions, all of its variants."""
    shutil.copytree(
        ROOT / "examples" / "shop",
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".fairlead", "__pycache__"),
    )
    return ["select"]


def banking77(folder: Path) -> list[str]:
    """Public messages to a bank, split once; the model is told the 77 labels in its prompt."""
    data = Path(os.environ.get("FAIRLEAD_DATA", "")) / "banking77"
    if not data.is_dir():
        raise SystemExit("FAIRLEAD_DATA holds no banking77")
    labels = json.loads((data / "categories.json").read_text(encoding="utf-8"))
    prompt = "Answer with the one label that fits the message, and nothing else. Labels: " + ", ".join(labels) + "."
    (folder / "prompt.md").write_text(prompt, encoding="utf-8")
    (folder / "fairlead.yaml").write_text(BANKING, encoding="utf-8")
    columns = ["--map", "input=text", "--map", "reference=category"]
    add = ["data", "add", "banking", str(data / "train.csv"), "--purpose", "eval", "--licence", "CC-BY-4.0"]
    for command in (
        [*add, "--drop", *columns],
        ["data", "split", "banking", "--into", "train=0.8", "--into", "eval=0.2"],
    ):
        if fairlead(folder, *command):
            raise SystemExit("the data could not be added")
    return ["select", "--data", "banking-eval", "--no-texts"]


def main(names: list[str]) -> int:
    """Make the reports named."""
    makers = {"shop": shop, "banking77": banking77}
    PAGES.mkdir(exist_ok=True)
    for name in names or list(makers):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            command = makers[name](folder)
            pages = {"--html": PAGES / f"{name}.html", "--markdown": PAGES / f"{name}.md"}
            status = fairlead(folder, *command, *(str(part) for pair in pages.items() for part in pair))
            made = f"\nMade by `python docs/select_reports.py {name}`, exit status {status}.\n"
            page = pages["--markdown"]
            page.write_text(page.read_text(encoding="utf-8") + made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
