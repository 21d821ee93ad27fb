"""What quantising costs: the held-out loss of a checkpoint in float32, as f16 and as q8_0.

`python -m training.quantised --run DIR [--rows 96]`

The matrices are packed as `export.py` packs them and unpacked again; the arithmetic is float32 throughout, so what is
compared is the rounding of the weights alone. Vectors stay as they are, as in the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from training.corpus import find_data, read_extra
from training.model import Shape, Weights, encode, rope_tables, token_losses
from training.packing import Encoder, Rows, make_block
from training.tokenizer import load_tokenizer
from training.train import CHECKPOINT, TOKENIZER, load_checkpoint

TYPES = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}


def rounded(weights: Weights, kind: str) -> Weights:
    """The weights as a file of this type gives them back; `f32` leaves them alone."""
    if kind == "f32":
        return weights
    result: Weights = {}
    for name, tensor in weights.items():
        array = tensor.float().numpy()
        if array.ndim == 2:
            packed = gguf.quants.quantize(np.ascontiguousarray(array), TYPES[kind])
            array = gguf.quants.dequantize(packed, TYPES[kind])
        result[name] = torch.from_numpy(np.array(array, np.float32))
    return result


def held_out_loss(weights: Weights, shape: Shape, rows: Rows, at_once: int = 6) -> tuple[float, int]:
    """Mean loss in nats of the tokens that the model writes, and their number."""
    length = rows.tokens.shape[1] - 1
    tables, causal = rope_tables(shape, length), torch.ones(length, length, dtype=torch.bool).tril()
    total, count = 0.0, 0
    for start in range(0, len(rows), at_once):
        part = rows.pick(slice(start, start + at_once))
        tokens, owners = torch.from_numpy(part.tokens), torch.from_numpy(part.documents[:, :-1].copy())
        positions, written = torch.from_numpy(part.positions), torch.from_numpy(part.weights) == 1.0
        mask = ((owners[:, :, None] == owners[:, None, :]) & causal)[:, None]
        with torch.no_grad():
            states = encode(weights, shape, tokens[:, :-1].contiguous(), mask, tables)
            losses = token_losses(weights, states, positions, tokens.gather(1, positions + 1))
        total, count = total + float(losses[written].sum()), count + int(written.sum())
    return total / count, count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.quantised", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--rows", type=int, default=96, help="rows of held-out documents")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    state = load_checkpoint(arguments.run / CHECKPOINT)
    shape, length = Shape(**state["shape"]), state["plan"]["length"]
    encoder = Encoder(load_tokenizer(arguments.run / TOKENIZER))
    rows = make_block(encoder, read_extra(find_data()), 0, arguments.rows, length, 1, "wordings")
    result: dict[str, float | int] = {}
    for kind in ("f32", *TYPES):
        loss, count = held_out_loss(rounded(state["weights"], kind), shape, rows)
        result |= {kind: round(loss, 5), "tokens": count}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
