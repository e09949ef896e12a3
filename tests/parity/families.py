"""Random tiny checkpoints of every family, written by transformers, with weights large enough to show mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 97
ORIGINAL_CONTEXT = 32
LENGTHS = (61, 5, 40)
"""Lengths of the test sequences: past every window and past the context before rotary scaling."""

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": ORIGINAL_CONTEXT,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 5_000.0, "factor": 4.0}

MODEL_CLASSES: dict[type, type[PreTrainedModel]] = {
    LlamaConfig: LlamaForCausalLM,
    MistralConfig: MistralForCausalLM,
    Qwen2Config: Qwen2ForCausalLM,
    Qwen3Config: Qwen3ForCausalLM,
}


@dataclass(frozen=True)
class Family:
    """A model to build: a configuration class of transformers, and what is special about it."""

    config_class: type
    options: dict[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "llama2": Family(LlamaConfig),
    "llama3": Family(LlamaConfig, {"rope_parameters": LLAMA3_ROPE, "head_dim": 32}),
    "llama-linear-biases-tied": Family(
        LlamaConfig,
        {"rope_parameters": LINEAR_ROPE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "mistral-window": Family(MistralConfig, {"sliding_window": 7}),
    "mistral-null-window": Family(MistralConfig, {"sliding_window": None, "head_dim": 32}),
    "qwen2-tied": Family(Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2-window": Family(Qwen2Config, {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen3": Family(Qwen3Config, {"head_dim": 32}),
    "qwen3-everything": Family(
        Qwen3Config,
        {
            "head_dim": 32,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": LLAMA3_ROPE,
        },
    ),
}


def build(family: Family, seed: int = 0) -> PreTrainedModel:
    """A random float32 model of the family.

    Weights are scaled so that logits and attention scores vary as much as in a trained model or more: with the small
    initial weights of transformers, attention is all but uniform and most mistakes in it go unseen.
    """
    config = family.config_class(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-2,  # large enough to matter
        **{"bos_token_id": 1, "eos_token_id": 2, **family.options},
    )
    model = MODEL_CLASSES[family.config_class](config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(_scaled(name, noise))
    return model


def _scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 2.0 + 0.6 * noise
    if name.endswith("norm.weight"):
        return 1.0 + 0.3 * noise
    if name.endswith("bias"):
        return 0.5 * noise
    if "embed_tokens" in name:
        return 0.4 * noise
    gain = 1.0 if name.endswith(("v_proj.weight", "o_proj.weight")) or "mlp" in name else 2.0
    return gain * noise / noise.shape[1] ** 0.5


def save(model: PreTrainedModel, directory: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write config.json, generation_config.json and the weights as transformers does."""
    model.to(dtype).save_pretrained(directory)
    return directory


def token_sequences(lengths: tuple[int, ...] = LENGTHS, vocab: int = VOCAB, seed: int = 1) -> list[torch.Tensor]:
    """Random token ids, int32, one tensor per length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab, (length,), generator=generator, dtype=torch.int32) for length in lengths]


def reference_logits(model: PreTrainedModel, sequences: list[torch.Tensor]) -> torch.Tensor:
    """Logits of transformers for every token of every sequence, float32 [T, vocab]."""
    with torch.no_grad():
        return torch.cat([model(tokens.long().unsqueeze(0)).logits[0].float() for tokens in sequences])
