"""Makes a real, tiny GGUF model (random weights, a Llama of 0.1 M parameters) and a LoRA adapter for it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
PIECES = ["\u2581the", "\u2581a", "\u2581of", "er", "in", *"abcdefghijklmnopqrstuvwxyz\u2581"]
HEADS, KV_HEADS = 4, 2


def write_model(
    path: Path, *, layers: int = 2, width: int = 64, context: int = 512, seed: int = 0, pooling: int | None = None
) -> Path:
    """A whole model file with tokenizer and chat template; ``pooling`` says how it makes one vector of many."""
    random = np.random.default_rng(seed)
    tokens = [*SPECIAL, *(f"<0x{value:02X}>" for value in range(256)), *PIECES]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 4]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(PIECES)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(pooling))
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * (len(tokens) - len(PIECES)) + [-float(rank) for rank in range(len(PIECES))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.2).astype(np.float32))

    add("token_embd.weight", len(tokens), width)
    # Rows of zeros for the special tokens and for parts of characters: greedy sampling then never picks one.
    output = (random.standard_normal((len(tokens), width)) * 0.2).astype(np.float32)
    output[: len(SPECIAL)] = 0
    output[len(SPECIAL) + 128 : len(SPECIAL) + 256] = 0
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(width, np.float32))
        for name, rows in (("q", width), ("k", width * KV_HEADS // HEADS), ("v", width * KV_HEADS // HEADS)):
            add(f"blk.{layer}.attn_{name}.weight", rows, width)
        add(f"blk.{layer}.attn_output.weight", width, width)
        add(f"blk.{layer}.ffn_gate.weight", 2 * width, width)
        add(f"blk.{layer}.ffn_up.weight", 2 * width, width)
        add(f"blk.{layer}.ffn_down.weight", width, 2 * width)
    return _finish(writer, path)


def write_adapter(path: Path, *, layers: int = 2, width: int = 64, rank: int = 4, seed: int = 1) -> Path:
    """A LoRA adapter for ``write_model``'s file, strong enough to change what it says."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    for layer in range(layers):
        for part, shape in (("a", (rank, width)), ("b", (2 * width, rank))):
            writer.add_tensor(
                f"blk.{layer}.ffn_up.weight.lora_{part}", random.standard_normal(shape).astype(np.float32)
            )
    return _finish(writer, path)


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
