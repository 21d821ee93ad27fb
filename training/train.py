"""Train `mini` from nothing: `python -m training.train --run DIR`.

One script for CPU and GPU. It keeps everything of a run in DIR (tokenizer, checkpoint, log), saves every few minutes
and on Ctrl-C, and `--resume` goes on exactly where it stopped: weights, optimisers and place in the data.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from training.corpus import find_data, read_extra
from training.model import (
    CopyCircuit,
    Shape,
    Weights,
    build_weights,
    count_parameters,
    encode,
    rope_tables,
    token_losses,
)
from training.packing import Encoder, Rows, make_block, stream_blocks
from training.prompt import TURN_START
from training.tokenizer import load_tokenizer, train_tokenizer

CHECKPOINT = "checkpoint.pt"
TOKENIZER = "tokenizer.json"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Plan:
    """What a run is: part of the checkpoint, so that a resumed run cannot differ unless told to."""

    tokens: int = 30_000_000
    rows: int = 12
    length: int = 384
    block: int = 240
    rate: float = 2e-3
    embedding_rate: float = 1.2e-3
    decay: float = 0.05
    warmup: float = 0.02
    decline: float = 0.5
    seed: int = 1

    def rate_at(self, done: float) -> float:
        """Factor of the learning rate when the share `done` of the run lies behind: up, level, then down in a straight
        line over the last `decline` of the run."""
        if done < self.warmup:
            return max(0.02, done / self.warmup)
        return 1.0 if done < 1 - self.decline else max(0.02, (1 - done) / self.decline)


class Trainer:
    """Weights, optimisers and the place in the data."""

    def __init__(self, plan: Plan, shape: Shape, sink_token: int, device: torch.device, compiled: bool) -> None:
        self.plan, self.shape, self.device = plan, shape, device
        fresh = build_weights(shape, plan.seed, sink_token)
        self.weights: Weights = {name: w.detach().to(device).requires_grad_() for name, w in fresh.items()}
        self.tables = rope_tables(shape, plan.length, device)
        self.causal = torch.ones(plan.length, plan.length, dtype=torch.bool, device=device).tril()
        matrices = [w for name, w in self.weights.items() if w.ndim == 2 and name != "embedding"]
        others = [w for name, w in self.weights.items() if w.ndim == 1 or name == "embedding"]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=plan.rate, weight_decay=plan.decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=plan.embedding_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
        self.losses = torch.compile(self._losses) if compiled else self._losses
        self.frozen = CopyCircuit(shape).frozen() if shape.circuit else []
        self.kept = [self.weights[name].detach()[part].clone() for name, part in self.frozen]
        self.step = self.tokens = self.block = self.row = 0
        self.history: list[dict[str, Any]] = [{"step": 0, "plan": asdict(plan)}]

    def _losses(self, weights: Weights, tokens: Tensor, mask: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        return token_losses(weights, encode(weights, self.shape, tokens, mask, self.tables), positions, targets)

    def run_forward(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Losses, their weights and the target tokens, each (rows, k)."""
        tokens = torch.from_numpy(rows.tokens).to(self.device)
        owners = torch.from_numpy(rows.documents[:, :-1].copy()).to(self.device)
        positions = torch.from_numpy(rows.positions).to(self.device)
        weights = torch.from_numpy(rows.weights).to(self.device)
        mask = ((owners[:, :, None] == owners[:, None, :]) & self.causal)[:, None]
        targets = tokens.gather(1, positions + 1)
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = self.losses(self.weights, tokens[:, :-1].contiguous(), mask, positions, targets)
        return losses, weights, targets

    def train_step(self, rows: Rows, done: float) -> float:
        """One step, `done` of the way through the run; the mean loss of the tokens that the model writes."""
        factor = self.plan.rate_at(done)
        for optimiser, rate in zip(self.optimisers, (self.plan.rate, self.plan.embedding_rate), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        losses, weights, _ = self.run_forward(rows)
        ((losses * weights).sum() / weights.sum()).backward()  # type: ignore[no-untyped-call, unused-ignore]
        for name, part in self.frozen:
            gradient = self.weights[name].grad
            if gradient is not None:
                gradient[part] = 0.0
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for (name, part), kept in zip(self.frozen, self.kept, strict=True):
                self.weights[name][part] = kept
        self.step += 1
        self.tokens += rows.tokens[:, 1:].size
        written = weights == 1.0
        return float(losses.detach()[written].mean())

    def measure(self, rows: Rows, digits: Tensor) -> tuple[float, float]:
        """Held-out mean loss of written tokens, and the mean probability given to the right digit."""
        total, count, right, numbers = 0.0, 0, 0.0, 0
        for start in range(0, len(rows), self.plan.rows):
            with torch.no_grad():
                losses, weights, targets = self.run_forward(rows.pick(slice(start, start + self.plan.rows)))
            written = weights == 1.0
            digit = written & digits.to(self.device)[targets]
            total, count = total + float(losses[written].sum()), count + int(written.sum())
            right, numbers = right + float(torch.exp(-losses[digit]).sum()), numbers + int(digit.sum())
        return total / max(1, count), right / max(1, numbers)

    def save(self, path: Path) -> None:
        """Atomic: a crash leaves the checkpoint before."""
        state = {
            "plan": asdict(self.plan),
            "history": self.history,
            "shape": self.shape.as_dict(),
            "weights": {name: w.detach().cpu() for name, w in self.weights.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "place": {"step": self.step, "tokens": self.tokens, "block": self.block, "row": self.row},
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def restore(self, state: dict[str, Any]) -> None:
        """Weights, optimisers and place of a checkpoint; a plan that differs from its last one is noted."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        place = state["place"]
        self.step, self.tokens, self.block, self.row = (place[k] for k in ("step", "tokens", "block", "row"))
        self.kept = [self.weights[name].detach()[part].clone() for name, part in self.frozen]
        self.history = list(state["history"])
        if self.history[-1]["plan"] != asdict(self.plan):
            self.history.append({"step": self.step, "plan": asdict(self.plan)})


def load_checkpoint(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def iterate_batches(trainer: Trainer, tokenizer: Path, data: Path | None, workers: int) -> Iterator[Rows]:
    """Batches from the trainer's place on; moves the place."""
    plan = trainer.plan
    stream = stream_blocks(tokenizer, data, trainer.block, plan.block, plan.length, plan.seed, workers)
    for number, block in stream:
        trainer.block = number
        while trainer.row + plan.rows <= len(block):
            rows = block.pick(slice(trainer.row, trainer.row + plan.rows))
            trainer.row += plan.rows
            yield rows
        trainer.row = 0
        trainer.block = number + 1


class Clock:
    """How much of the run lies behind: by tokens, or by time if a limit in minutes comes first.

    A time limit makes a run end well on a shared machine, at the price that it cannot be repeated exactly.
    """

    def __init__(self, trainer: Trainer, minutes: float | None) -> None:
        self._trainer, self._minutes = trainer, minutes
        self.began, self._first = time.monotonic(), trainer.tokens

    @property
    def done(self) -> float:
        total = self._trainer.plan.tokens
        by_tokens = self._trainer.tokens / total
        if self._minutes is None:
            return by_tokens
        behind = self._first / total
        passed = (time.monotonic() - self.began) / (60 * self._minutes)
        return max(by_tokens, behind + (1 - behind) * passed)

    @property
    def speed(self) -> float:
        """Tokens a second since the start or the last resumption."""
        return (self._trainer.tokens - self._first) / max(1e-9, time.monotonic() - self.began)

    @property
    def minutes_left(self) -> float:
        by_tokens = (self._trainer.plan.tokens - self._trainer.tokens) / max(1e-9, self.speed) / 60
        if self._minutes is None:
            return by_tokens
        return min(by_tokens, self._minutes - (time.monotonic() - self.began) / 60)


class Stop:
    """Remembers Ctrl-C or a termination request, so that the step in hand is finished and saved."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def prepare(arguments: argparse.Namespace) -> tuple[Trainer, Path, Path | None]:
    """The trainer, fresh or resumed, with its tokenizer and data."""
    run: Path = arguments.run
    run.mkdir(parents=True, exist_ok=True)
    data, tokenizer_path = find_data(), run / TOKENIZER
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    state = load_checkpoint(run / CHECKPOINT) if arguments.resume else None
    if state is None and (run / CHECKPOINT).exists():
        sys.exit(f"{run / CHECKPOINT} exists: go on with --resume, or give another --run folder")
    if not tokenizer_path.exists():
        train_tokenizer(read_extra(data)).save(str(tokenizer_path))
    tokenizer = load_tokenizer(tokenizer_path)
    chosen = {f.name: getattr(arguments, f.name) for f in fields(Plan) if getattr(arguments, f.name) is not None}
    plan = Plan(**((state["plan"] if state else {}) | chosen))
    fresh = {"vocabulary": tokenizer.get_vocab_size(), "circuit": arguments.circuit}
    shape = Shape(**(state["shape"] if state else fresh))
    trainer = Trainer(plan, shape, tokenizer.token_to_id(TURN_START), device, arguments.compile)
    if state:
        trainer.restore(state)
    millions = count_parameters(trainer.weights) / 1e6
    ahead = f"{plan.tokens / 1e6:.1f} M tokens, from step {trainer.step}"
    print(f"{millions:.2f} M parameters on {device}, {ahead}", flush=True)
    return trainer, tokenizer_path, data


def train(arguments: argparse.Namespace) -> None:
    trainer, tokenizer_path, data = prepare(arguments)
    plan, run, stop = trainer.plan, arguments.run, Stop()
    tokenizer = load_tokenizer(tokenizer_path)
    digits = torch.tensor([tokenizer.decode([i]).strip().isdigit() for i in range(tokenizer.get_vocab_size())])
    held_out = make_block(Encoder(tokenizer), read_extra(data), 0, 4 * plan.rows, plan.length, plan.seed, "wordings")
    workers = max(1, (os.cpu_count() or 2) - 2) if trainer.device.type == "cuda" else 0
    clock = Clock(trainer, arguments.minutes)
    saved = measured = said = clock.began
    recent: list[float] = []
    for rows in iterate_batches(trainer, tokenizer_path, data, workers):
        if clock.done >= 1 or stop.asked:
            trainer.row -= plan.rows  # this batch has not been used
            break
        recent = [*recent[-19:], trainer.train_step(rows, clock.done)]
        now = time.monotonic()
        if now - said > arguments.say:
            said = now
            print(
                f"step {trainer.step}  {trainer.tokens / 1e6:.2f}/{plan.tokens / 1e6:.1f} M tokens  loss "
                f"{sum(recent) / len(recent):.3f}  {clock.speed:.0f} tokens/s  {clock.minutes_left:.0f} min left",
                flush=True,
            )
        if now - measured > arguments.measure or clock.done >= 1:
            loss, digit = trainer.measure(held_out, digits)
            measured = time.monotonic()
            record = {
                "step": trainer.step,
                "tokens": trainer.tokens,
                "seconds": round(measured - clock.began),
                "loss": round(sum(recent) / len(recent), 4),
                "held_out": round(loss, 4),
                "digit": round(digit, 4),
            }
            with (run / LOG).open("a") as log:
                log.write(json.dumps(record) + "\n")
            print(f"held out: loss {loss:.3f}, right digit {digit:.3f}", flush=True)
        if now - saved > arguments.save:
            trainer.save(run / CHECKPOINT)
            saved = time.monotonic()
    trainer.save(run / CHECKPOINT)
    ended = "done" if clock.done >= 1 else "stopped: go on with --resume"
    print(f"{ended}, step {trainer.step}, {trainer.tokens} tokens, saved in {run / CHECKPOINT}", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--minutes", type=float, help="end after so many minutes, however many tokens are done")
    parser.add_argument("--say", type=float, default=30, help="seconds between progress lines")
    parser.add_argument("--measure", type=float, default=300, help="seconds between held-out measurements")
    parser.add_argument("--save", type=float, default=180, help="seconds between checkpoints")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="run without torch.compile")
    parser.add_argument("--no-circuit", dest="circuit", action="store_false", help="train without the copy circuit")
    for one in fields(Plan):
        kind = int if one.type == "int" else float
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, help=f"default {one.default}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    train(parse())
