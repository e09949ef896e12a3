"""Makes a small Llama directory of random EXL2 weights, exactly as ExLlamaV2's converter leaves one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.model.formats.exl2 import exl2_state
from engine.ops.exl2 import (
    Exl2Tensors,
    build_q_groups,
    decode,
    layout_groups,
    pack_codes,
    pack_scale_codes,
    scales_from_codes,
)

HEADS, KV_HEADS = 4, 2


def write_random_exl2_llama(
    path: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    vocab: int = 150,
    tied: bool = True,
    seed: int = 0,
    widths: tuple[int, ...] = (5, 4),
    shared_orders: bool = True,
) -> dict[str, torch.Tensor]:
    """Write a random `LlamaForCausalLM` with all its matrices, the head included, in EXL2. No tokenizer.

    As ExLlamaV2 leaves it: one `output.safetensors` without metadata, a stale index naming the float16 shards, a
    head of its own even where config.json says `tie_word_embeddings`, its columns padded to a multiple of 32, and no
    `quantization_config`.

    Args:
        path: directory to make.
        hidden: a multiple of 32 (and of 4 heads); the MLP is twice as wide.
        layers: number of decoder layers.
        vocab: true number of logits, any number.
        tied: what config.json says.
        seed: of the weights.
        widths: falling; each gets one group of 32 rows, and the last one all that are left.
        shared_orders: whether matrices with the same input store their rows in the same order, as converters leave it.

    Returns:
        The decoded weights under their Hugging Face names, float16, matrices [out, in] without padding, with
        `lm_head.weight` whether tied or not: a state dict for the reference implementation.
    """
    generator = torch.Generator().manual_seed(seed)
    stored: dict[str, torch.Tensor] = {}
    decoded: dict[str, torch.Tensor] = {}

    def plain(name: str, tensor: torch.Tensor) -> None:
        stored[name] = decoded[name] = tensor.half()

    orders: dict[str, torch.Tensor] = {}

    def matrix(prefix: str, inputs: int, outputs: int, like: str = "") -> None:
        weight = torch.randn(inputs, outputs, generator=generator) * 1.5 / inputs**0.5
        own = torch.randperm(inputs, generator=generator)
        orders[prefix] = orders[like] if like and shared_orders else own
        tensors = quantize_to_nearest(weight, widths, orders[prefix])
        stored.update(exl2_state(prefix, tensors))
        decoded[f"{prefix}.weight"] = decode(tensors)[:, :outputs].T.contiguous()

    def norm(name: str) -> None:
        plain(f"{name}.weight", 1 + 0.1 * torch.randn(hidden, generator=generator))

    plain("model.embed_tokens.weight", torch.randn(vocab, hidden, generator=generator))
    kv = hidden // HEADS * KV_HEADS
    for index in range(layers):
        layer = f"model.layers.{index}"
        norm(f"{layer}.input_layernorm")
        queries, gate = f"{layer}.self_attn.q_proj", f"{layer}.mlp.gate_proj"
        matrix(queries, hidden, hidden)
        matrix(f"{layer}.self_attn.k_proj", hidden, kv, like=queries)
        matrix(f"{layer}.self_attn.v_proj", hidden, kv, like=queries)
        matrix(f"{layer}.self_attn.o_proj", hidden, hidden)
        norm(f"{layer}.post_attention_layernorm")
        matrix(gate, hidden, 2 * hidden)
        matrix(f"{layer}.mlp.up_proj", hidden, 2 * hidden, like=gate)
        matrix(f"{layer}.mlp.down_proj", 2 * hidden, hidden)
    norm("model.norm")
    matrix("lm_head", hidden, vocab)

    path.mkdir(parents=True, exist_ok=True)
    save_file(stored, path / "output.safetensors")
    _write_json(path / "config.json", _config(hidden, layers, vocab, tied))
    _write_json(path / "model.safetensors.index.json", _stale_index(decoded))
    return decoded


def quantize_to_nearest(weight: torch.Tensor, widths: tuple[int, ...], order: torch.Tensor) -> Exl2Tensors:
    """The float32 matrix [inputs, outputs], padded and rounded to nearest, its inputs stored in this order."""
    inputs, outputs = weight.shape
    weight = torch.nn.functional.pad(weight, (0, -outputs % 32))
    blocks = inputs // 32
    layout = [(widths[min(block, len(widths) - 1)], 32) for block in range(blocks)]
    groups = layout_groups(layout)
    codes, scale_codes, scale_max = [], [], []
    for group in groups:
        rows = weight[order[group.row_slice]]
        wanted = (rows.abs().amax(dim=0) + 1e-12) / group.zero_point
        largest = wanted.max().half()
        steps = (16 * (wanted / largest.float()).sqrt()).ceil().clamp(1, 16)
        code = (steps - 1).to(torch.uint8).unsqueeze(0)
        scale = scales_from_codes(code, largest.unsqueeze(0)).float()
        levels = (rows / scale).round() + group.zero_point
        codes.append(levels.clamp(0, 2 * group.zero_point - 1).to(torch.uint8))
        scale_codes.append(code)
        scale_max.append(largest)
    return Exl2Tensors(
        q_weight=pack_codes(torch.cat(codes), groups),
        q_invperm=torch.argsort(order).to(torch.int32),
        q_scale=pack_scale_codes(torch.cat(scale_codes)),
        q_scale_max=torch.stack(scale_max),
        q_groups=build_q_groups(layout),
        bias=None,
        out_features=outputs,
    )


def _config(hidden: int, layers: int, vocab: int, tied: bool) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": hidden // HEADS,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 128,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": vocab,
    }


def _stale_index(decoded: dict[str, torch.Tensor]) -> dict[str, object]:
    """The index of the float16 model, which the converter copies although its shards are gone."""
    size = sum(tensor.nbytes for tensor in decoded.values())
    weight_map = {
        name: f"model-0000{1 + number % 2}-of-00002.safetensors"
        for number, name in enumerate(name for name in decoded if name != "lm_head.weight")
    }
    return {"metadata": {"total_size": size}, "weight_map": weight_map}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=4), encoding="utf-8")
