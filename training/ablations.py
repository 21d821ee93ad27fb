"""Small comparisons of single choices: copy circuit, optimiser, digit splitting, size.

`python -m training.ablations --tokenizer RUN/tokenizer.json --out ablations.jsonl [--blocks 4]`

Every arm sees the same blocks of data once, in the same order, with the same schedule; one choice differs from the
first arm. The runs are short and small, so what they show is which way a choice points, not how far it carries.
Measured on held-out wordings: nats per written character (comparable across tokenizers) and the probability that a
whole number in an answer is written right when what stands before it is given.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from training.corpus import find_data, read_extra
from training.generator import Extra
from training.model import Shape, count_parameters
from training.packing import Encoder, Rows, make_block
from training.prompt import TURN_START
from training.tokenizer import PATTERN, load_tokenizer, train_tokenizer
from training.train import Plan, Trainer

SMALL = Shape(hidden=192, layers=4, heads=3, inner=512)
_ROWS, _LENGTH, _BLOCK, _HELD_OUT = 6, 384, 240, 96


@dataclass(frozen=True)
class Arm:
    name: str
    shape: Shape = SMALL
    adamw: bool = False
    joined_digits: bool = False
    rate: float = 2e-3
    seed: int = 1


ARMS = (
    Arm("small: circuit, Muon, single digits"),
    Arm("no circuit", replace(SMALL, circuit=False)),
    Arm("AdamW, rate 1e-3", adamw=True, rate=1e-3),
    Arm("AdamW, rate 3e-3", adamw=True, rate=3e-3),
    Arm("numbers in groups of up to three digits", joined_digits=True),
    Arm("size of mini", Shape()),
    Arm("small, second seed", seed=2),
    Arm("no circuit, second seed", replace(SMALL, circuit=False), seed=2),
)


def join_digits(extra: Extra) -> Tokenizer:
    """A tokenizer like ours, but with up to three digits in a token."""
    return train_tokenizer(extra, pattern=PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|"))


def measure(trainer: Trainer, rows: Rows, tokenizer: Tokenizer) -> dict[str, float]:
    """Nats per written character; mean probability of a whole number, and how many there were."""
    pieces = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]
    digit = [any(c.isdigit() for c in piece) for piece in pieces]
    nats = characters = 0.0
    numbers: list[float] = []
    for start in range(0, len(rows), _ROWS):
        with torch.no_grad():
            losses, weights, targets = trainer.run_forward(part := rows.pick(slice(start, start + _ROWS)))
        for row in range(len(part)):
            before, number = -2, 0.0
            for place, loss, weight, target in zip(
                part.positions[row].tolist(), losses[row].tolist(), weights[row].tolist(), targets[row].tolist(),
                strict=True,
            ):  # fmt: skip
                if weight != 1.0:
                    continue
                nats, characters = nats + loss, characters + len(pieces[target])
                if not digit[target]:
                    continue
                if place != before + 1 and before >= 0:
                    numbers.append(math.exp(-number))
                    number = 0.0
                before, number = place, number + loss
            if before >= 0:
                numbers.append(math.exp(-number))
    return {
        "nats_per_character": round(nats / characters, 4),
        "number_right": round(sum(numbers) / max(1, len(numbers)), 4),
        "numbers": len(numbers),
        "characters": int(characters),
    }


def run_arm(arm: Arm, tokenizer: Tokenizer, extra: Extra, blocks: int) -> dict[str, Any]:
    """Train one arm and measure it."""
    plan = Plan(tokens=blocks * _BLOCK * _LENGTH, rows=_ROWS, length=_LENGTH, block=_BLOCK, rate=arm.rate)
    shape = replace(arm.shape, vocabulary=tokenizer.get_vocab_size())
    plan = replace(plan, seed=arm.seed)
    trainer = Trainer(plan, shape, tokenizer.token_to_id(TURN_START), torch.device("cpu"), compiled=True)
    if arm.adamw:
        matrices = [w for name, w in trainer.weights.items() if w.ndim == 2 and name != "embedding"]
        trainer.optimisers[0] = torch.optim.AdamW(
            matrices, lr=arm.rate, betas=(0.9, 0.95), weight_decay=plan.decay, fused=True
        )
    encoder, began = Encoder(tokenizer), time.process_time()
    for rows in _batches(encoder, extra, blocks):
        trainer.train_step(rows, trainer.tokens / plan.tokens)
    spent = time.process_time() - began
    held_out = make_block(encoder, extra, 0, _HELD_OUT, _LENGTH, 1, "wordings")
    return {
        "arm": arm.name,
        "parameters": count_parameters(trainer.weights),
        "tokens": trainer.tokens,
        "cpu_seconds": round(spent),
        **measure(trainer, held_out, tokenizer),
    }


def _batches(encoder: Encoder, extra: Extra, blocks: int) -> Iterator[Rows]:
    for number in range(blocks):
        block = make_block(encoder, extra, number, _BLOCK, _LENGTH, 1)
        for start in range(0, len(block), _ROWS):
            yield block.pick(slice(start, start + _ROWS))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.ablations", description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer with single digits, of a run")
    parser.add_argument("--out", type=Path, required=True, help="file for the results, one JSON object a line")
    parser.add_argument("--blocks", type=int, default=4, help=f"blocks of {_BLOCK * _LENGTH} tokens for every arm")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    extra = read_extra(find_data())
    single, joined = load_tokenizer(arguments.tokenizer), None
    for arm in ARMS:
        if arm.joined_digits and joined is None:
            joined = join_digits(extra)
        result = run_arm(arm, joined if arm.joined_digits and joined else single, extra, arguments.blocks)
        with arguments.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
