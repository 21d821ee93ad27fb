"""A teacher that reads question and unit together: the sentence encoder, tuned to say whether a unit answers.

    FAIRLEAD_DATA=... python -m training.scorer_reader --work DIR      # needs torch and the package of scorer_teacher

The scorer is small and sees little; this one, a hundred times slower, starts from all-MiniLM-L6-v2 and learns the same
questions (`training.scorer_data`, training splits only). The scorer then learns from what it says of many more pairs
than anybody labelled. Serves training alone; nothing of it is shipped. A state is kept in DIR and taken up again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from fairlead.engines.scorer import shared
from fairlead.engines.scorer.pieces import apart
from training.scorer_data import Library, gather
from training.scorer_draw import Drawer, likeness_of
from training.scorer_eval import Figures, held_libraries, measure
from training.scorer_teacher import HEADS, model_folder

Floats = npt.NDArray[np.float32]
SEED = 20261129
STEPS, QUESTIONS, CANDIDATES = 300, 6, 8
LONGEST, WORDS = 64, 36  # word pieces of a pair, words of a question
RATE, HEAD_RATE, DROP = 1e-4, 5e-4, 0.1
STILL = 1  # layers of the encoder that stay as they are
EACH = 0.5  # share of every unit judged by itself
INVENTED = 40  # shops
MEASURED_UNITS, MEASURED_EVERY = 12, 4  # likest units of a question, and every how manieth question, it is slow
SHARES = {"natural": 0.45, "pairs": 0.33, "invented": 0.06, "faq": 0.05, "clapnq": 0.04, "mtrag": 0.07}


class Reader(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """Pairs (question, unit) to log-odds: a BERT of six layers with a head over all word pieces."""

    def __init__(self) -> None:
        super().__init__()
        folder = model_folder()
        found = load_file(str(folder / "model.safetensors"))
        named = {name.removeprefix("bert.").replace(".", "__"): value.float() for name, value in found.items()}
        self.layers = int(json.loads((folder / "config.json").read_text())["num_hidden_layers"])
        wide = named["embeddings__word_embeddings__weight"].shape[1]
        self.fixed = {n: v for n, v in named.items() if n.startswith("embeddings__")}
        self.w = nn.ParameterDict({n: nn.Parameter(v) for n, v in named.items() if n.startswith("encoder__")})
        for name, weight in self.w.items():
            weight.requires_grad_(int(name.split("__")[2]) >= STILL)
        self.hidden, self.out = nn.Linear(4 * wide, wide), nn.Linear(wide, 1)
        self.alike, self.least = nn.Parameter(torch.tensor(8.0)), nn.Parameter(torch.tensor(-5.0))
        nn.init.zeros_(self.out.weight)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST, strategy="only_second")
        self._ids: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def pieces(self, pair: tuple[str, str]) -> tuple[list[int], list[int]]:
        """(word pieces, whose they are) of a pair."""
        if pair not in self._ids:
            told = ": ".join(part for part in apart(pair[1]) if part)
            encoded = self.tokenizer.encode(" ".join(pair[0].split()[-WORDS:]), told)
            self._ids[pair] = (encoded.ids, encoded.type_ids)
        return self._ids[pair]

    def forward(self, pairs: Sequence[tuple[str, str]], at_once: int = 16) -> Tensor:
        """Log-odds (pairs,); those of like length are read together."""
        order = sorted(range(len(pairs)), key=lambda i: len(self.pieces(pairs[i])[0]))
        some = [order[start : start + at_once] for start in range(0, len(order), at_once)]
        found = torch.cat([self._together([pairs[i] for i in part]) for part in some])
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return found[back]

    def _together(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        read = [self.pieces(pair) for pair in pairs]
        width = max(len(ids) for ids, _ in read)
        tokens = torch.zeros(len(read), width, dtype=torch.long)
        kinds = torch.zeros(len(read), width, dtype=torch.long)
        mask = torch.zeros(len(read), width, dtype=torch.bool)
        for i, (ids, types) in enumerate(read):
            tokens[i, : len(ids)], kinds[i, : len(ids)], mask[i, : len(ids)] = (
                torch.tensor(ids),
                torch.tensor(types),
                True,
            )
        with torch.autocast("cpu", torch.bfloat16):
            x = self._encode(tokens, mask).float()
        told, asked = (mask & (kinds == 1))[..., None].float(), (mask & (kinds == 0))[..., None].float()
        unit = functional.normalize((x * told).sum(1) / told.sum(1).clamp(min=1), dim=-1)
        question = functional.normalize((x * asked).sum(1) / asked.sum(1), dim=-1)
        far = unit.shape[-1] ** 0.5
        both = torch.cat([x[:, 0], unit * far, question * far, unit * question * far * far], -1)
        bent = functional.gelu(self.hidden(functional.dropout(both, DROP, self.training)))
        # starts as the likeness of the two halves, which the encoder knows already
        score: Tensor = self.out(bent).squeeze(-1) + self.alike * (unit * question).sum(-1) + self.least
        return score

    def _encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.fixed["embeddings__word_embeddings__weight"][tokens]
            x = x + self.fixed["embeddings__position_embeddings__weight"][: tokens.shape[1]]
            x = x + self.fixed["embeddings__token_type_embeddings__weight"][0]
            gain, shift = (self.fixed[f"embeddings__LayerNorm__{p}"] for p in ("weight", "bias"))
            x = functional.layer_norm(x, x.shape[-1:], gain, shift, 1e-12)
        shape = (*tokens.shape, HEADS, -1)
        for layer in range(self.layers):
            name = f"encoder__layer__{layer}"
            q, k, v = (
                self._linear(x, f"{name}__attention__self__{p}").view(shape).transpose(1, 2)
                for p in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
            mixed = mixed.transpose(1, 2).reshape(x.shape)
            mixed = self._linear(mixed, f"{name}__attention__output__dense")
            x = self._norm(x + mixed, f"{name}__attention__output__LayerNorm")
            inner = functional.gelu(self._linear(x, f"{name}__intermediate__dense"))
            inner = self._linear(inner, f"{name}__output__dense")
            x = self._norm(x + inner, f"{name}__output__LayerNorm")
        return x

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.w[f"{name}__weight"], self.w[f"{name}__bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x.float(), x.shape[-1:], self.w[f"{name}__weight"], self.w[f"{name}__bias"], 1e-12)

    @torch.inference_mode()  # type: ignore[untyped-decorator,unused-ignore]
    def rate(self, question: str, units: Sequence[str]) -> Floats:
        """Log-odds (units,) of one question: a rater as `scorer_eval` takes it."""
        found: Floats = self.rate_all([(question, unit) for unit in units])
        return found

    @torch.inference_mode()  # type: ignore[untyped-decorator,unused-ignore]
    def rate_all(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Log-odds of any pairs."""
        found: Floats = self(pairs, 32).numpy()
        return found


def load(work: Path) -> Reader:
    """The tuned teacher of a folder. Raises FileNotFoundError before it was trained."""
    reader = Reader()
    reader.load_state_dict(torch.load(work / "reader.pt", weights_only=True)["model"])
    reader.eval()
    return reader


def loss_of(scores: Sequence[Tensor], golds: Sequence[Tensor]) -> Tensor:
    """The right unit or none (a softmax with an empty option), and every unit by itself."""
    total = torch.zeros(())
    for found, gold in zip(scores, golds, strict=True):
        wanted = torch.cat([gold, (1 - gold.max())[None]])
        odds = torch.cat([found, torch.zeros(1)]).log_softmax(-1)
        listed = -torch.logsumexp(odds.masked_fill(wanted == 0, -1e4), -1)
        each = functional.binary_cross_entropy_with_logits(found, gold, pos_weight=torch.tensor(3.0), reduction="sum")
        total = total + listed + EACH * each / 4
    return total / len(scores)


def tune(reader: Reader, drawer: Drawer, work: Path, steps: int) -> None:
    """The whole but its word rows, by AdamW; the head learns faster than the body."""
    head = [*reader.hidden.parameters(), *reader.out.parameters(), reader.alike, reader.least]
    groups = [
        {"params": [p for p in reader.w.values() if p.requires_grad], "lr": RATE, "weight_decay": 0.01},
        {"params": head, "lr": HEAD_RATE, "weight_decay": 0.01},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, step / steps))))

    start, path = 0, work / "reader.pt"
    if path.is_file():
        state = torch.load(path, weights_only=True)
        reader.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start = int(state["step"])
    rng = random.Random(SEED + start)
    torch.manual_seed(SEED + start)
    reader.train()
    mean, began = 2.0, time.process_time()
    for step in range(start, steps):
        for group, base in zip(optimiser.param_groups, (RATE, HEAD_RATE), strict=True):
            group["lr"] = base * rate(step)
        drawn = drawer.draw(rng)
        pairs = [(one.asked, one.units[i]) for one in drawn for i in range(len(one.units))]
        scores = reader(pairs).split([len(one.units) for one in drawn])
        loss = loss_of(scores, [torch.tensor(one.gold) for one in drawn])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        mean += 0.03 * (loss.item() - mean)
        if step % 25 == 24:
            print(f"reader {step + 1}: loss {mean:.3f}, {time.process_time() - began:.0f} s of CPU", flush=True)
        if step % 100 == 99 or step + 1 == steps:
            state = {"model": reader.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save(state, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)


def main() -> None:
    """Tune and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    options.work.mkdir(parents=True, exist_ok=True)
    library: Library = gather(options.data, set(), invented=INVENTED)
    drawer = Drawer(library, likeness_of(library, options.work), SHARES, QUESTIONS, CANDIDATES)
    print(drawer.counts(), flush=True)
    reader = Reader()
    tune(reader, drawer, options.work, options.steps)
    reader.eval()
    for label, libraries in held_libraries():
        figures = Figures()
        small = Figures()
        for held in libraries:
            figures.add(measure(reader.rate, held, likest=MEASURED_UNITS, every=MEASURED_EVERY))
            small.add(measure(shared().score, held, likest=MEASURED_UNITS, every=MEASURED_EVERY))
        print(f"{label}, teacher: {figures.row()}\n{label}, shipped scorer: {small.row()}", flush=True)


if __name__ == "__main__":
    main()
