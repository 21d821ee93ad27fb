"""Write a checkpoint as GGUF for llama.cpp, and, on request, as a Hugging Face folder for tuning.

`python -m training.export --run DIR --gguf mini.gguf [--type q8_0|f16] [--hf FOLDER]`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.model import Shape, Weights
from training.prompt import CALL_END, CALL_START, CHAT_TEMPLATE, PAD, TURN_END, TURN_START
from training.tokenizer import LLAMA_CPP_PRE, load_tokenizer
from training.train import CHECKPOINT, TOKENIZER, load_checkpoint

CONTEXT = 1024
"""Positions that the file declares. Training rows are shorter (`Plan.length`): the model card says how long."""
Array = npt.NDArray[np.float32]


def split_weights(weights: Weights, shape: Shape) -> dict[str, Array]:
    """Tensors under their Hugging Face names, in float32; q, k, v and gate, up apart."""
    arrays = {name: tensor.float().numpy() for name, tensor in weights.items()}
    result: dict[str, Array] = {
        "model.embed_tokens.weight": arrays["embedding"],
        "model.norm.weight": arrays["norm"],
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        joint = arrays[f"{layer}.qkv"].reshape(3, shape.hidden, shape.hidden)
        for name, part in zip("qkv", joint, strict=True):
            result[f"{prefix}.self_attn.{name}_proj.weight"] = part
        result[f"{prefix}.self_attn.o_proj.weight"] = arrays[f"{layer}.out"]
        gate, up = np.split(arrays[f"{layer}.gate_up"], 2)
        result[f"{prefix}.mlp.gate_proj.weight"] = gate
        result[f"{prefix}.mlp.up_proj.weight"] = up
        result[f"{prefix}.mlp.down_proj.weight"] = arrays[f"{layer}.down"]
        result[f"{prefix}.input_layernorm.weight"] = arrays[f"{layer}.attention_norm"]
        result[f"{prefix}.post_attention_layernorm.weight"] = arrays[f"{layer}.mlp_norm"]
    return result


def interleave(matrix: Array, heads: int) -> Array:
    """Rows of a query or key matrix from half-split rotary layout to the pairs that llama.cpp turns together."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def write_gguf(path: Path, weights: Weights, shape: Shape, tokenizer: Tokenizer, kind: str, version: str) -> None:
    """The whole model in one file: metadata, tokenizer, chat template, tensors. The same input gives the same bytes."""
    writer = gguf.GGUFWriter(str(path), "llama")
    quantised = gguf.GGMLQuantizationType.Q8_0 if kind == "q8_0" else gguf.GGMLQuantizationType.F16
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    _add_description(writer, version)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    _add_tokenizer(writer, tokenizer)
    for name, array in split_weights(weights, shape).items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            array = interleave(array, shape.heads)
        if array.ndim == 1:
            writer.add_tensor(gguf_name(name), array)
        else:
            packed = gguf.quants.quantize(np.ascontiguousarray(array), quantised)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_description(writer: gguf.GGUFWriter, version: str) -> None:
    writer.add_name("mini")
    writer.add_author("Fairlead")
    writer.add_organization("Fairlead")
    writer.add_version(version)
    writer.add_license("Apache-2.0")
    writer.add_languages(["en"])
    writer.add_description("Embedded model of Fairlead, made by its own training scripts. See docs/models/mini.md.")


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    data = json.loads(tokenizer.to_str())
    size = tokenizer.get_vocab_size()
    tokens = [tokenizer.id_to_token(number) for number in range(size)]
    control = {PAD, TURN_START, TURN_END}
    visible = {CALL_START, CALL_END}  # the runtime must see them in the text to find the call
    kinds = [
        gguf.TokenType.CONTROL
        if token in control
        else gguf.TokenType.USER_DEFINED
        if token in visible
        else gguf.TokenType.NORMAL
        for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(LLAMA_CPP_PRE)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = data["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    end = tokenizer.token_to_id(TURN_END)
    writer.add_bos_token_id(tokenizer.token_to_id(TURN_START))
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_pad_token_id(tokenizer.token_to_id(PAD))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def hf_config(shape: Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": tokenizer.token_to_id(TURN_START),
        "eos_token_id": tokenizer.token_to_id(TURN_END),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "torch_dtype": "float32",
    }


def write_hf(folder: Path, weights: Weights, shape: Shape, tokenizer: Tokenizer) -> None:
    """A folder that `LlamaForCausalLM.from_pretrained` loads, for tuning with LoRA."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in split_weights(weights, shape).items()}
    save_file(arrays, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf_config(shape, tokenizer), indent=2) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": TURN_START,
        "eos_token": TURN_END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--gguf", type=Path, help="GGUF file to write")
    parser.add_argument("--type", choices=("q8_0", "f16"), default="q8_0", help="type of the matrices")
    parser.add_argument("--hf", type=Path, help="Hugging Face folder to write")
    parser.add_argument("--version", default="0.1", help="version of the model")
    arguments = parser.parse_args()
    state = load_checkpoint(arguments.run / CHECKPOINT)
    shape, tokenizer = Shape(**state["shape"]), load_tokenizer(arguments.run / TOKENIZER)
    if arguments.gguf:
        write_gguf(arguments.gguf, state["weights"], shape, tokenizer, arguments.type, arguments.version)
        print(f"{arguments.gguf}: {arguments.gguf.stat().st_size / 1e6:.2f} MB after {state['place']['tokens']} tokens")
    if arguments.hf:
        write_hf(arguments.hf, state["weights"], shape, tokenizer)
        print(f"{arguments.hf}: Hugging Face folder")


if __name__ == "__main__":
    main()
