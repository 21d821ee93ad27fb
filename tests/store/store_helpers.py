"""Records for the tests of the store, and processes to kill."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from fairlead.records import Inference, new_id, now_us

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
FOREVER = 1 << 62

COLUMNS: dict[str, Any] = {
    "tenant": "default",
    "subject": "someone",
    "usecase": "shop",
    "spec_hash": "a" * 64,
    "release": "b" * 64,
}


def make_inference(**values: Any) -> Inference:
    """A trace; every field may be given."""
    return Inference(**{"id": new_id(), "time": now_us(), **COLUMNS, **values})


def make_traffic(count: int, *, since: int, span: int, seed: int = 1) -> list[Inference]:
    """Traces spread evenly over a span of microseconds, as different as real ones, in order of time."""
    chance = random.Random(seed)
    return [
        make_inference(
            time=since + span * number // count,
            tenant=chance.choice(["default", "other"]),
            conversation=f"c{number // 3}",
            parent="" if number % 3 else f"p{number}",
            operation="assistant" if number % 3 == 0 else "chat",
            variant=chance.choice(["extractive", "mini", "hosted"]),
            model="m",
            status=chance.choice([200, 200, 200, 429, 500]),
            input_tokens=chance.randrange(2000),
            output_tokens=chance.randrange(200),
            cost=chance.choice([None, 0, 123_456]),
            first_token_us=chance.choice([None, 5_000, 9_999]),
            total_us=chance.randrange(1, 3 * SECOND),
            steps={"authenticate": 3, "call": 2000},
            input='[{"role":"user","content":"Wo ist mein Paket? 📦"}]',
            output="x" * chance.randrange(300),
            tags={"page": "/faq"},
        )
        for number in range(count)
    ]


def run_script(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python process running ``script``, with its output in pipes."""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    folder = str(Path(__file__).parents[2])
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, **options)
