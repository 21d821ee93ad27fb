"""The tokenizer of `mini`: byte-level BPE of 4,096 tokens in which every digit is a token of its own.

The pre-tokenizer is the pattern that llama.cpp knows as `qwen2`, so that the exported file needs no code of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.generator import Extra
from training.mixture import draw_document
from training.prompt import MARKERS, render

VOCABULARY = 4096
LLAMA_CPP_PRE = "qwen2"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sample_texts(extra: Extra, count: int, seed: int) -> Iterator[str]:
    """Rendered documents and corpus texts, without the markers."""
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(count):
        text = render(draw_document(rng, "train", extra))
        for marker in MARKERS:
            text = text.replace(marker, "")
        yield text
    for dialogue in rng.sample(list(extra.dialogues), min(len(extra.dialogues), count // 8)):
        yield from (text for _, text in dialogue)


def train_tokenizer(
    extra: Extra, count: int = 12_000, seed: int = 1, size: int = VOCABULARY, pattern: str = PATTERN
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(extra, count, seed), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
