"""Makes a real, tiny model as Hugging Face's libraries write it (random weights, a Llama of 0.1 M parameters, a token
for each byte) and a LoRA adapter for it, with nothing but NumPy.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.engines.tiny_gguf import TEMPLATE

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WIDTH, LAYERS, HEADS = 64, 2, 2
Weights = Mapping[str, npt.NDArray[np.float32]]


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """A whole model with tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *sorted(_letters())])}
    size = len(vocabulary)
    _write(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": size, "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS, "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "hidden_act": "silu",
        "tie_word_embeddings": False, "torch_dtype": "float32",
    })  # fmt: skip
    added = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for number, token in enumerate(SPECIAL)
    ]  # fmt: skip
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    _write(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": bytes_, "post_processor": None, "decoder": bytes_,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": []},
    })  # fmt: skip
    _write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "pad_token": SPECIAL[0],
        "eos_token": SPECIAL[2], "chat_template": TEMPLATE, "model_max_length": 1024,
    })  # fmt: skip
    random = np.random.default_rng(seed)

    def made(*shape: int) -> npt.NDArray[np.float32]:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    ones = np.ones(WIDTH, np.float32)
    weights = {"model.embed_tokens.weight": made(size, WIDTH), "lm_head.weight": made(size, WIDTH),
               "model.norm.weight": ones}  # fmt: skip
    for layer in range(LAYERS):
        start = f"model.layers.{layer}"
        weights |= {f"{start}.self_attn.{name}_proj.weight": made(WIDTH, WIDTH) for name in "qkvo"}
        weights |= {f"{start}.mlp.{name}_proj.weight": made(2 * WIDTH, WIDTH) for name in ("gate", "up")}
        weights[f"{start}.mlp.down_proj.weight"] = made(WIDTH, 2 * WIDTH)
        weights |= {f"{start}.{name}_layernorm.weight": ones for name in ("input", "post_attention")}
    _write_safetensors(folder / "model.safetensors", weights)
    return folder


def write_adapter(folder: Path, *, rank: int = 8, seed: int = 1) -> Path:
    """A LoRA adapter for ``write_model``'s folder, strong enough to change what it says."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "adapter_config.json", {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 8 * rank, "bias": "none",
        "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0, "base_model_name_or_path": "tiny",
    })  # fmt: skip
    random = np.random.default_rng(seed)
    weights = {
        f"base_model.model.model.layers.{layer}.self_attn.{name}_proj.lora_{part}.weight": random.standard_normal(
            shape
        ).astype(np.float32)
        for layer in range(LAYERS)
        for name in "qv"
        for part, shape in (("A", (rank, WIDTH)), ("B", (WIDTH, rank)))
    }
    _write_safetensors(folder / "adapter_model.safetensors", weights)
    return folder


def _letters() -> list[str]:
    """A printable letter for each byte, as byte-level tokenizers write them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*map(chr, plain), *(chr(0x100 + place) for place in range(256 - len(plain)))]


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_safetensors(path: Path, weights: Weights) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, weight in weights.items():
        header[name] = {"dtype": "F32", "shape": weight.shape, "data_offsets": [begin, begin + weight.nbytes]}
        begin += weight.nbytes
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(weight.tobytes() for weight in weights.values()))
