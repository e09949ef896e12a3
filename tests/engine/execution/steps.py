"""Scheduled steps and model configurations for the execution tests."""

from __future__ import annotations

import json
from pathlib import Path

from engine.model.config import ModelConfig, load_config
from engine.scheduling.batch import ScheduledSequence
from engine.scheduling.sequence import Sequence
from engine.types import GenerationRequest, SamplingParams

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 2,
}


def model_config(directory: Path) -> ModelConfig:
    """Three layers of two key heads of eight features: 192 bytes per token in float16."""
    (directory / "config.json").write_text(json.dumps(TINY_LLAMA))
    return load_config(directory)


def share(
    tokens: list[int], start: int, num_tokens: int, blocks: list[int], *, sample: bool = False
) -> ScheduledSequence:
    """A share of a step of a sequence that knows `tokens`."""
    request = GenerationRequest("request", tuple(tokens), SamplingParams(temperature=0))
    return ScheduledSequence(Sequence(request, 0, 0, tokens, start, blocks), start, num_tokens, sample)
