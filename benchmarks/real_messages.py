"""Real customer messages through `fairlead ask --file`: none may fail.

Draws from the public sets Bitext (shop support) and Banking77 under FAIRLEAD_DATA, with a fixed seed. Banking messages
are foreign to a shop: for them the right behaviour is mostly "I don't know". The messages stay out of the results.
"""

from __future__ import annotations

import collections
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Report

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
SETS = {
    "bitext": ("bitext/Bitext_Sample_Customer_Service_Validation_Dataset.csv", "utterance"),
    "banking77": ("banking77/train.csv", "text"),
}
EACH = 150


def draw(data: Path, path: str, column: str) -> list[str]:
    """``EACH`` different messages of one set, the same ones every time."""
    with (data / path).open(encoding="utf-8", newline="") as file:
        texts = sorted({row[column].strip() for row in csv.DictReader(file) if row[column].strip()})
    return random.Random(20261122).sample(texts, EACH)


def main() -> int:
    """Ask, count and report."""
    data = os.environ.get("FAIRLEAD_DATA")
    if not data:
        print("FAIRLEAD_DATA is not set: this benchmark needs the folders bitext/ and banking77/ of public data.")
        return 2
    report = Report("real_messages", note=f"{EACH} messages of each set, seed 20261122, live variant of examples/shop.")
    failed = 0
    for name, (path, column) in SETS.items():
        messages = draw(Path(data), path, column)
        with tempfile.TemporaryDirectory() as folder:
            source, answers = Path(folder) / "messages.csv", Path(folder) / "answers.jsonl"
            with source.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([["message"], *([text] for text in messages)])
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "fairlead", "ask", "--file", str(source), "--output", str(answers)]
            run = subprocess.run(
                [*command, "--data-dir", folder], cwd=SHOP, capture_output=True, text=True, check=False
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        errors = sum("error" in row for row in rows) + (len(messages) - len(rows)) + (run.returncode not in (0, 1))
        failed += errors
        report.add(f"{name}: messages that failed", errors, "of n", n=len(messages), target="<= 0")
        acts = collections.Counter(row.get("act", "error") for row in rows)
        for act, count in acts.most_common():
            report.add(f"{name}: act {act}", count, "of n", n=len(messages))
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        report.add(f"{name}: CPU a message, start included", cpu / len(messages) * 1e3, "ms", n=len(messages))
        if run.returncode not in (0, 1):
            print(run.stderr)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
