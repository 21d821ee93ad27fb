"""What the tuned teacher (`scorer_reader`) says of many pairs, for the scorer to learn from.

    FAIRLEAD_DATA=... python -m training.scorer_labels --work DIR --reader DIR [--part 0 --parts 2]

A line of DIR/read-0.jsonl is a question, the units beside it, the teacher's log-odds of each, and, where the question
was written for these pages, which of them answer. Questions are also asked over the pages of another
shop, where mostly nothing answers though much sounds like it. Lines come in random order, so that a part will do; a run
goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from training.scorer_data import Asked, Library, gather
from training.scorer_draw import Drawer, likeness_of
from training.scorer_reader import INVENTED, SHARES, load

Floats = npt.NDArray[np.float32]
SEED = 20261130
LIKE, OTHERS, ELSEWHERE_LIKE = 7, 3, 6  # units of a question: the likest, others of its shop; the likest elsewhere
MOST = {"natural": 2000, "pairs": 6000, "invented": 500, "faq": 500, "clapnq": 300, "mtrag": 250}
ELSEWHERE = (0.5, 1.0)  # questions over another shop's pages, to one over its own, of each turn
AT_ONCE = 12  # questions between two writes


class Read(NamedTuple):
    """A question with units, the teacher's log-odds of each, and which answer (None where nobody said)."""

    asked: str
    shelf: int
    units: list[str]
    scores: list[float]
    gold: list[float] | None


def plan(library: Library, drawer: Drawer) -> Iterator[tuple[Asked, int, list[int]]]:
    """(question, shelf, units) in random order, for ever the same; then once more, with the next likest units."""
    by_source: dict[str, list[Asked]] = {}
    for one in library.asked:
        by_source.setdefault(one.source, []).append(one)
    written = sorted({one.shelf for s in ("natural", "pairs") for one in by_source.get(s, [])})
    for turn, elsewhere in enumerate(ELSEWHERE):
        rng = random.Random(SEED + turn)
        jobs: list[tuple[Asked, int]] = []
        for source, most in MOST.items():
            some = by_source.get(source, [])
            jobs += [(one, one.shelf) for one in rng.sample(some, min(len(some), most))]
        own = [one for one, _ in jobs if one.source in ("natural", "pairs")]
        jobs += [(one, rng.choice(written)) for one in rng.sample(own, round(elsewhere * len(own)))]
        rng.shuffle(jobs)
        for one, shelf in jobs:
            if places := units_of(one, shelf, library, drawer, turn, rng):
                yield one, shelf, places


def units_of(one: Asked, shelf: int, library: Library, drawer: Drawer, turn: int, rng: random.Random) -> list[int]:
    """The units that a question is read beside."""
    if shelf != one.shelf:
        return drawer.likest(one.text, shelf, ELSEWHERE_LIKE)
    places = drawer.likest(one.text, shelf, LIKE * (turn + 1))[LIKE * turn :]
    places += [i for i in rng.sample(one.right, min(2, len(one.right))) if i not in places]
    if turn:
        return places
    others = [i for i in range(len(library.shelves[shelf].units)) if i not in places]
    return places + rng.sample(others, min(OTHERS, len(others)))


def read_labels(folder: Path) -> list[Read]:
    """The labels written so far, of all parts; a line cut off in the middle is left out."""
    lines = [line for path in sorted(folder.glob("read-*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return [Read(row["asked"], row["shelf"], row["units"], row["scores"], row["gold"]) for row in rows]


def done_of(path: Path) -> int:
    """How many lines of a part are whole; a half one at its end is cut off."""
    if not path.is_file():
        return 0
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    """Read what is not read yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--reader", type=Path, required=True, help="the folder of training.scorer_reader")
    parser.add_argument("--part", type=int, default=0, help="which of --parts, that may be read at once")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    library = gather(options.data, set(), invented=INVENTED)
    drawer = Drawer(library, likeness_of(library, options.reader), SHARES, 1, 1)
    path = options.work / f"read-{options.part}.jsonl"
    done = done_of(path)
    jobs = list(islice(plan(library, drawer), options.part, None, options.parts))[done:]
    print(f"{len(jobs)} questions to read, {done} done", flush=True)
    reader = load(options.reader)
    began = time.process_time()
    with path.open("a", encoding="utf-8") as file:
        for start in range(0, len(jobs), AT_ONCE):
            some = [
                (one, shelf, places, [library.shelves[shelf].units[i] for i in places])
                for one, shelf, places in jobs[start : start + AT_ONCE]
            ]
            scores = reader.rate_all([(one.text, unit) for one, _, _, units in some for unit in units]).tolist()
            for one, shelf, places, units in some:
                here, scores = scores[: len(units)], scores[len(units) :]
                gold = [float(i in one.right) for i in places] if shelf == one.shelf else None
                row = {"asked": one.text, "shelf": shelf, "units": units, "scores": [round(s, 3) for s in here]}
                file.write(json.dumps({**row, "gold": gold}) + "\n")
            file.flush()
            if start // AT_ONCE % 20 == 19:
                print(f"{start + len(some)} read, {time.process_time() - began:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
