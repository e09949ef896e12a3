"""Small random models on disk, and text for them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file

from tests.engine.text import make_tokenizers

HIDDEN, INNER, LAYERS = 64, 96, 2

WORDS = (
    *("the", "cat", "sat", "on", "mat", "hello", "world", "there", "def", "return", "x"),
    *("Hello,", "naïve", "café", "f(x)", "12", "345", "!"),
)


class NoProgress:
    """Shows nothing."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class SilentProgress:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done: list[int] = []

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.stages.append((name, total))
        self.done.append(done)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done[-1] += steps


def write_dense_model(
    directory: Path,
    *,
    tied: bool = True,
    biases: bool = False,
    dtype: torch.dtype = torch.float16,
    hidden: int = HIDDEN,
    inner: int = INNER,
    layers: int = LAYERS,
    vocabulary: int = 0,
    seed: int = 0,
) -> Path:
    """A random Llama (with `biases`: Qwen2) with a tokenizer; its vocabulary is no multiple of 32 unless given."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizers.byte_level()
    make_tokenizers.save(tokenizer, directory)
    vocabulary = vocabulary or tokenizer.get_vocab_size() + (tokenizer.get_vocab_size() % 32 == 0)
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(dtype)

    tensors = {
        "model.embed_tokens.weight": random(vocabulary, hidden, scale=0.3),
        "model.norm.weight": 1 + random(hidden) * 0.1,
    }
    if not tied:
        tensors["lm_head.weight"] = random(vocabulary, hidden, scale=2 * hidden**-0.5)
    kv = hidden // 2
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = 1 + random(hidden) * 0.1
        for name, shape in shapes.items():
            tensors[f"{prefix}.{name}.weight"] = random(*shape, scale=1.5 * shape[1] ** -0.5)
            if biases and name[-6] in "qkv":
                tensors[f"{prefix}.{name}.bias"] = random(shape[0], scale=0.3)
    save_file(tensors, directory / "model.safetensors")
    config: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM" if biases else "LlamaForCausalLM"],
        "model_type": "qwen2" if biases else "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def write_text(path: Path, words: int = 4000, seed: int = 0) -> Path:
    """A text of random words."""
    draws = Random(seed)
    path.write_text("".join(draws.choice(WORDS) + draws.choice([" ", " ", " ", ".\n"]) for _ in range(words)), "utf-8")
    return path
