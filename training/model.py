"""The `mini` architecture: a Llama-style decoder written as plain functions over a dictionary of tensors.

Knows nothing of data, optimisers or files. Every tensor maps onto the `llama` architecture of GGUF and of Hugging Face
(rotary positions in half-split layout, RMSNorm, SwiGLU, tied embeddings), so engines and adapters need no special case.

The *copy circuit* (`CopyCircuit`) sets a few attention heads by formula instead of learning them. Two heads of layer 0
look one and two tokens back and note what they saw; two heads of layer 1 look for the place where the present token
(and the one before it) already occurred and fetch what followed. This is the induction mechanism of Olsson et al. 2022
("In-context Learning and Induction Heads"), which small models discover late; given by construction, a number in a
source can be repeated digit by digit from the first training step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]
LOOK_BACK = 2  # tokens that the look-back heads of layer 0 note: one and two places before


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; `circuit` says whether the copy circuit is built in."""

    vocabulary: int = 4096
    hidden: int = 320
    layers: int = 6
    heads: int = 5
    inner: int = 832
    rope_base: float = 1_000_000.0
    epsilon: float = 1e-5
    circuit: bool = True

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def as_dict(self) -> dict[str, int | float | bool]:
        return asdict(self)


def count_parameters(weights: Weights) -> int:
    return sum(tensor.numel() for tensor in weights.values())


def build_weights(shape: Shape, seed: int, sink_token: int) -> Weights:
    """Fresh weights; with `shape.circuit` the copy circuit is written into them.

    `sink_token` opens every turn; the fetching heads rest on it when the present token has not occurred before.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int, deviation: float) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * deviation

    narrow = 0.02 / math.sqrt(2 * shape.layers)
    weights: Weights = {"embedding": normal(shape.vocabulary, shape.hidden, 0.05), "norm": torch.ones(shape.hidden)}
    for layer in range(shape.layers):
        weights[f"{layer}.attention_norm"] = torch.ones(shape.hidden)
        weights[f"{layer}.mlp_norm"] = torch.ones(shape.hidden)
        weights[f"{layer}.qkv"] = normal(3 * shape.hidden, shape.hidden, 0.02)
        weights[f"{layer}.out"] = normal(shape.hidden, shape.hidden, narrow)
        weights[f"{layer}.gate_up"] = normal(2 * shape.inner, shape.hidden, 0.02)
        weights[f"{layer}.down"] = normal(shape.hidden, shape.inner, narrow)
    if shape.circuit:
        CopyCircuit(shape).install(weights, sink_token, generator)
    return {name: tensor.requires_grad_() for name, tensor in weights.items()}


def rope_tables(shape: Shape, length: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (length, head_size), in float32."""
    half = shape.head_size // 2
    frequency = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = states.chunk(2, dim=-1)
    return states * cosine + torch.cat((-second, first), dim=-1) * sine


def encode(weights: Weights, shape: Shape, tokens: Tensor, mask: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Final hidden states (batch, length, hidden) for `tokens` (batch, length) under a boolean `mask`
    (batch, 1, length, length) that is true where a query may look."""
    batch, length = tokens.shape
    cosine, sine = tables[0][:length], tables[1][:length]
    size = (shape.hidden,)
    states = functional.embedding(tokens, weights["embedding"])
    for layer in range(shape.layers):
        normed = functional.rms_norm(states, size, weights[f"{layer}.attention_norm"], shape.epsilon)
        joint = functional.linear(normed, weights[f"{layer}.qkv"]).view(batch, length, 3, shape.heads, shape.head_size)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, cosine, sine).to(value.dtype), rotate(key, cosine, sine).to(value.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        states = states + functional.linear(
            mixed.transpose(1, 2).reshape(batch, length, shape.hidden), weights[f"{layer}.out"]
        )
        normed = functional.rms_norm(states, size, weights[f"{layer}.mlp_norm"], shape.epsilon)
        gate, up = functional.linear(normed, weights[f"{layer}.gate_up"]).chunk(2, dim=-1)
        states = states + functional.linear(functional.silu(gate) * up, weights[f"{layer}.down"])
    return functional.rms_norm(states, size, weights["norm"], shape.epsilon)


def token_losses(weights: Weights, states: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy (batch, k) at the `positions` (batch, k) only: the vocabulary product is a fifth of the step."""
    picked = states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
    logits = functional.linear(picked, weights["embedding"]).float()
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


@dataclass(frozen=True)
class CopyCircuit:
    """Heads set by formula, in the first `reserved` dimensions of the residual stream.

    Layout of the reserved dimensions: a constant, a flag for the sink token, a random +-1 code of the token, the code
    of the token before (written by layer 0), part of the code of the one before that (likewise).
    """

    shape: Shape
    own: int = 24
    previous: int = 24
    second: int = 11

    CONSTANT = 2.0
    CODE = 0.5

    @property
    def reserved(self) -> int:
        return 2 + self.own + self.previous + self.second

    @property
    def fetchers(self) -> tuple[tuple[int, int], ...]:
        """Code dimensions each fetching head of layer 1 compares: (of the token before, of the one before that)."""
        return ((20, 11), (24, 0))

    def install(self, weights: Weights, sink_token: int, generator: torch.Generator) -> None:
        """Write the circuit into fresh `weights` (in place)."""
        shape, free = self.shape, slice(self.reserved, None)
        embedding = weights["embedding"]
        embedding[:, : self.reserved] = 0.0
        embedding[:, 0] = self.CONSTANT
        embedding[sink_token, 1] = self.CONSTANT
        signs = torch.randint(0, 2, (shape.vocabulary, self.own), generator=generator) * 2.0 - 1.0
        embedding[:, 2 : 2 + self.own] = signs * self.CODE
        for layer in range(shape.layers):
            weights[f"{layer}.qkv"][:, : self.reserved] = 0.0
            weights[f"{layer}.gate_up"][:, : self.reserved] = 0.0
            for part in ("attention_norm", "mlp_norm"):
                weights[f"{layer}.{part}"][free] = 4.0  # the constant fills the norm: restore the volume of the rest
            for part in ("out", "down"):
                weights[f"{layer}.{part}"][: self.reserved] = 0.0
        weights["norm"][: self.reserved] = 0.0
        weights["norm"][free] = 4.0
        self._install_look_back(weights)
        self._install_fetch(weights, generator)

    def frozen(self) -> list[tuple[str, tuple[slice, ...]]]:
        """Parts of the weights that training must leave as `install` set them."""
        hidden, size, reserved = self.shape.hidden, self.shape.head_size, slice(0, self.reserved)
        parts: list[tuple[str, tuple[slice, ...]]] = [("embedding", (slice(None), reserved)), ("norm", (reserved,))]
        parts += [(name, (reserved,)) for name in ("0.out", "0.down", "0.attention_norm", "1.attention_norm")]
        looking, fetching = LOOK_BACK * size, len(self.fetchers) * size
        parts += [("0.qkv", (slice(block * hidden, block * hidden + looking),)) for block in range(3)]
        parts.append(("0.out", (slice(None), slice(0, looking))))
        parts += [("1.qkv", (slice(block * hidden, block * hidden + fetching),)) for block in range(2)]
        return parts

    def _install_look_back(self, weights: Weights) -> None:
        """Head 0 and 1 of layer 0: constant queries and keys whose rotation is in phase at a distance of 1 and 2."""
        shape, size, hidden = self.shape, self.shape.head_size, self.shape.hidden
        half, pairs = size // 2, 8
        joint, out = weights["0.qkv"], weights["0.out"]
        constant, code = self._normalised()
        strength = math.sqrt(40.0 * math.sqrt(size) / 0.8) / constant  # 40 nats per step
        for head, start in ((0, 2 + self.own), (1, 2 + self.own + self.previous)):
            rows = slice(head * size, (head + 1) * size)
            for block in range(3):
                joint[block * hidden : (block + 1) * hidden][rows] = 0.0
            out[:, rows] = 0.0
            for pair in range(pairs):
                angle = (head + 1) * shape.rope_base ** (-pair / half)
                joint[head * size + pair, 0] = strength * math.cos(angle)
                joint[head * size + half + pair, 0] = -strength * math.sin(angle)
                joint[hidden + head * size + pair, 0] = strength
            for slot in range(self.previous if head == 0 else self.second):
                joint[2 * hidden + head * size + slot, 2 + slot] = 1.0
                out[start + slot, head * size + slot] = self.CODE / code

    def _install_fetch(self, weights: Weights, generator: torch.Generator) -> None:
        """First heads of layer 1: the key is what stood before a place, the query what stands here."""
        size, hidden = self.shape.head_size, self.shape.hidden
        half, reserved = size // 2, self.reserved
        joint, out = weights["1.qkv"], weights["1.out"]
        constant, code = self._normalised()
        slow = [*range(half // 2, half), *range(half + half // 2, size)]  # pairs that turn less than 0.4 in 400 tokens
        free = hidden - reserved
        basis = torch.linalg.qr(torch.randn(free, free, generator=generator))[0]
        own, before, second = 2, 2 + self.own, 2 + self.own + self.previous
        for head, (count, more) in enumerate(self.fetchers):
            rows = slice(head * size, (head + 1) * size)
            joint[:hidden][rows] = 0.0
            joint[hidden : 2 * hidden][rows] = 0.0
            matched = (count + more) * code * code / math.sqrt(size)
            strength = math.sqrt(24.0 / matched)  # a full match scores 24 nats
            for place in range(count):
                joint[head * size + slow[place], own + place] = strength
                joint[hidden + head * size + slow[place], before + place] = strength
            for place in range(more):
                joint[head * size + slow[count + place], before + place] = strength
                joint[hidden + head * size + slow[count + place], second + place] = strength
            # Measured in the stack: a match scores 26-29 nats, chance likenesses up to 15.
            sink = math.sqrt(23.0 * math.sqrt(size)) / constant
            joint[head * size + slow[-1], 0] = sink
            joint[hidden + head * size + slow[-1], 1] = sink
            part = basis[head * size : (head + 1) * size]
            joint[2 * hidden :][rows, reserved:] = part / 4.0
            joint[2 * hidden :][rows, :reserved] = 0.0
            out[reserved:, rows] = part.T  # the fetched token outweighs the present one in the logits
            out[:reserved, rows] = 0.0

    def _normalised(self) -> tuple[float, float]:
        """The constant and the code as the first layers see them after RMSNorm, for typical embeddings."""
        codes = self.own + self.previous + self.second
        power = self.CONSTANT**2 + codes * self.CODE**2 + (self.shape.hidden - self.reserved) * 0.1**2
        root = math.sqrt(power / self.shape.hidden)
        return self.CONSTANT / root, self.CODE / root
