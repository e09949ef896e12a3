"""Writes a model directory of any size in seconds: EXL2 matrices of random codes, and the demo's tokenizer.

Its answers are nonsense; its tensors and what they take in memory are those of a real model of this shape.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.model.formats.exl2 import exl2_state
from engine.ops.exl2 import Exl2Tensors, build_q_groups, layout_groups

DEMO = Path(__file__).resolve().parents[1] / "demo" / "quire-demo"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
GROUP_ROWS = 128
HEAD_WIDTHS = (6,)
SAME_INPUT = {
    "self_attn.k_proj": "self_attn.q_proj",
    "self_attn.v_proj": "self_attn.q_proj",
    "mlp.up_proj": "mlp.gate_proj",
}
"""Matrices, and one that has the same input."""


@dataclass(frozen=True, slots=True)
class RandomModel:
    """Shape of a Llama. The default has 1.1 billion parameters.

    Attributes:
        widths: bits per code; each takes an equal run of the rows of every matrix, widest first.
    """

    hidden: int = 2048
    layers: int = 22
    intermediate: int = 5632
    heads: int = 32
    kv_heads: int = 4
    vocab: int = 32000
    positions: int = 4096
    widths: tuple[int, ...] = (5, 4, 4, 3)
    seed: int = 0

    @property
    def head_dim(self) -> int:
        """Features per head."""
        return self.hidden // self.heads


def write_random_model(directory: Path, model: RandomModel) -> None:
    """Write the directory: config.json, one safetensors file per layer, tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, model)
    for name in TOKENIZER_FILES:
        shutil.copy(DEMO / name, directory / name)
    for index, tensors in enumerate(random_tensors(model, torch.Generator().manual_seed(model.seed))):
        save_file(tensors, directory / f"output-{index:05}.safetensors")


def write_config(directory: Path, model: RandomModel) -> None:
    """Write config.json alone."""
    (directory / "config.json").write_text(json.dumps(_config(model), indent=2), encoding="utf-8")


def random_tensors(model: RandomModel, generator: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """Tensors by name: what is outside the layers, then each layer.

    They are made on the generator's device. Matrices with the same input store their rows in the same order, as in the
    files of EXL2's own quantizer.
    """
    vectors = _vectors(model, generator)
    head = random_matrix(model.hidden, model.vocab, HEAD_WIDTHS, generator)
    yield {**next(vectors), **exl2_state("lm_head", head)}
    for layer, tensors in enumerate(vectors):
        orders: dict[str, torch.Tensor] = {}
        for name, (inputs, outputs) in _shapes(model).items():
            matrix = random_matrix(inputs, outputs, model.widths, generator)
            order = orders.setdefault(SAME_INPUT.get(name, name), matrix.q_invperm)
            tensors.update(exl2_state(f"model.layers.{layer}.{name}", replace(matrix, q_invperm=order.clone())))
        yield tensors


def random_dense_tensors(model: RandomModel, generator: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """The same with float16 matrices."""

    def matrix(inputs: int, outputs: int) -> torch.Tensor:
        values = torch.randn(outputs, inputs, generator=generator, device=generator.device, dtype=torch.float16)
        return values.div_(inputs**0.5)

    vectors = _vectors(model, generator)
    yield {**next(vectors), "lm_head.weight": matrix(model.hidden, model.vocab)}
    for layer, tensors in enumerate(vectors):
        for name, shape in _shapes(model).items():
            tensors[f"model.layers.{layer}.{name}.weight"] = matrix(*shape)
        yield tensors


def _vectors(model: RandomModel, generator: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
    """What is no matrix: outside the layers, then of each layer."""
    device = generator.device

    def ones() -> torch.Tensor:
        return torch.ones(model.hidden, dtype=torch.float16, device=device)

    embedding = torch.randn(model.vocab, model.hidden, generator=generator, device=device).half()
    yield {"model.embed_tokens.weight": embedding, "model.norm.weight": ones()}
    for layer in range(model.layers):
        norms = ("input_layernorm", "post_attention_layernorm")
        yield {f"model.layers.{layer}.{norm}.weight": ones() for norm in norms}


def _shapes(model: RandomModel) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a layer's matrices."""
    kv = model.kv_heads * model.head_dim
    return {
        "self_attn.q_proj": (model.hidden, model.hidden),
        "self_attn.k_proj": (model.hidden, kv),
        "self_attn.v_proj": (model.hidden, kv),
        "self_attn.o_proj": (model.hidden, model.hidden),
        "mlp.gate_proj": (model.hidden, model.intermediate),
        "mlp.up_proj": (model.hidden, model.intermediate),
        "mlp.down_proj": (model.intermediate, model.hidden),
    }


def random_matrix(inputs: int, outputs: int, widths: tuple[int, ...], generator: torch.Generator) -> Exl2Tensors:
    """An EXL2 matrix [inputs, outputs], both multiples of 32: every code is as likely as any other."""
    starts = range(0, inputs, GROUP_ROWS)
    layout = [
        (widths[index * len(widths) // len(starts)], min(GROUP_ROWS, inputs - start))
        for index, start in enumerate(starts)
    ]
    groups = layout_groups(layout)
    device = generator.device
    deviations = torch.tensor([group.zero_point / 3**0.5 * 94 / 256 for group in groups])  # of codes times scale steps
    return Exl2Tensors(
        q_weight=_random_words(groups[-1].word_slice.stop, outputs, generator),
        q_invperm=torch.randperm(inputs, generator=generator, device=device).to(torch.int32),
        q_scale=_random_words(len(groups), outputs // 8, generator),
        q_scale_max=(1 / (inputs**0.5 * deviations)).half().to(device),
        q_groups=build_q_groups(layout),
        bias=None,
        out_features=outputs,
    )


def _random_words(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    words = torch.empty(rows, columns, dtype=torch.int32, device=generator.device)
    return words.random_(-(2**31), 2**31 - 1, generator=generator)


def _config(model: RandomModel) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocab,
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.intermediate,
        "max_position_embeddings": model.positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
