"""Parity is only worth something if it breaks: every fact about a family, changed alone, must change the result.

A change counts as noticed when the checkpoint no longer loads or the logits move by far more than the tolerance of
the parity tests. Every field of every dataclass involved is either perturbed here or said to be no maths, so that a
new field cannot slip through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import CheckpointError
from engine.model.arch import ArchSpec, BiasRule, WindowRule
from engine.model.config import ModelConfig, find_family, load_config, resolve_config
from engine.model.config_reader import ConfigReader, read_json
from engine.model.loader import load_model
from engine.model.names import CheckpointNames
from engine.model.rope import LinearScaling, Llama3Scaling, RopeParameters
from engine.ops.torch_backend import TorchBackend
from tests.parity.families import FAMILIES, build, reference_logits, save, token_sequences
from tests.parity.running import full_logits
from tests.parity.test_families import TOLERANCE

EVERYTHING = "qwen3-everything"
BIASES_TIED = "llama-linear-biases-tied"

NO_MATHS = {
    "ModelConfig": {"architecture", "max_position_embeddings", "bos_token_id"},
    # the first two choose the row; the defaults are held to those of transformers in test_config.py
    "ArchSpec": {"architecture", "model_type", "default_window", "default_head_dim"},
}


def change(**values: Any) -> Callable[[Any], Any]:
    return lambda instance: replace(instance, **values)


def change_rope(rope: RopeParameters) -> Callable[[ModelConfig], ModelConfig]:
    return lambda config: replace(config, rope=rope)


def change_scaling(**values: Any) -> Callable[[ModelConfig], ModelConfig]:
    def changed(config: ModelConfig) -> ModelConfig:
        assert config.rope.scaling is not None
        return replace(config, rope=replace(config.rope, scaling=replace(config.rope.scaling, **values)))

    return changed


def change_names(**values: str) -> Callable[[ModelConfig], ModelConfig]:
    return lambda config: replace(config, spec=replace(config.spec, names=replace(config.spec.names, **values)))


CONFIG_CHANGES: dict[tuple[str, str], tuple[str, Callable[[ModelConfig], ModelConfig]]] = {
    ("ModelConfig", "spec"): (EVERYTHING, lambda config: replace(config, spec=replace(config.spec, qk_norm=False))),
    ("ModelConfig", "vocab_size"): (EVERYTHING, change(vocab_size=96)),
    ("ModelConfig", "hidden_size"): (EVERYTHING, change(hidden_size=32)),
    ("ModelConfig", "intermediate_size"): (EVERYTHING, change(intermediate_size=64)),
    ("ModelConfig", "num_layers"): (EVERYTHING, change(num_layers=2)),
    ("ModelConfig", "num_heads"): (EVERYTHING, change(num_heads=2)),
    ("ModelConfig", "num_kv_heads"): (EVERYTHING, change(num_kv_heads=4)),
    ("ModelConfig", "head_dim"): (EVERYTHING, change(head_dim=16, num_heads=8, num_kv_heads=4)),
    ("ModelConfig", "rms_norm_eps"): (EVERYTHING, change(rms_norm_eps=1e-6)),
    ("ModelConfig", "rope"): (EVERYTHING, change_rope(RopeParameters(theta=10_000.0))),
    ("ModelConfig", "windows"): (EVERYTHING, change(windows=(10, None, 9))),
    ("ModelConfig", "qkv_bias"): (EVERYTHING, change(qkv_bias=False)),
    ("ModelConfig", "o_bias"): (EVERYTHING, change(o_bias=False)),
    ("ModelConfig", "mlp_bias"): (BIASES_TIED, change(mlp_bias=False)),
    ("ModelConfig", "tie_word_embeddings"): (BIASES_TIED, change(tie_word_embeddings=False)),
    ("RopeParameters", "theta"): (
        EVERYTHING,
        lambda config: replace(config, rope=replace(config.rope, theta=12_000.0)),
    ),
    ("RopeParameters", "scaling"): (BIASES_TIED, change_rope(RopeParameters(theta=5_000.0))),
    ("LinearScaling", "factor"): (BIASES_TIED, change_scaling(factor=4.2)),
    ("Llama3Scaling", "factor"): (EVERYTHING, change_scaling(factor=6.0)),
    ("Llama3Scaling", "low_freq_factor"): (EVERYTHING, change_scaling(low_freq_factor=1.5)),
    ("Llama3Scaling", "high_freq_factor"): (EVERYTHING, change_scaling(high_freq_factor=5.0)),
    ("Llama3Scaling", "original_max_positions"): (EVERYTHING, change_scaling(original_max_positions=40)),
    ("CheckpointNames", "embedding"): (EVERYTHING, change_names(embedding="lm_head", head="model.embed_tokens")),
    ("CheckpointNames", "layer"): (EVERYTHING, change_names(layer="model.layer.{index}")),
    ("CheckpointNames", "input_norm"): (
        EVERYTHING,
        change_names(input_norm="post_attention_layernorm", post_attention_norm="input_layernorm"),
    ),
    ("CheckpointNames", "q_proj"): (EVERYTHING, change_names(q_proj="self_attn.query")),
    ("CheckpointNames", "k_proj"): (EVERYTHING, change_names(k_proj="self_attn.v_proj", v_proj="self_attn.k_proj")),
    ("CheckpointNames", "v_proj"): (EVERYTHING, change_names(v_proj="self_attn.value")),
    ("CheckpointNames", "o_proj"): (EVERYTHING, change_names(o_proj="self_attn.out")),
    ("CheckpointNames", "q_norm"): (EVERYTHING, change_names(q_norm="self_attn.k_norm", k_norm="self_attn.q_norm")),
    ("CheckpointNames", "k_norm"): (EVERYTHING, change_names(k_norm="self_attn.key_norm")),
    ("CheckpointNames", "post_attention_norm"): (EVERYTHING, change_names(post_attention_norm="mlp_norm")),
    ("CheckpointNames", "gate_proj"): (EVERYTHING, change_names(gate_proj="mlp.up_proj", up_proj="mlp.gate_proj")),
    ("CheckpointNames", "up_proj"): (EVERYTHING, change_names(up_proj="mlp.fc1")),
    ("CheckpointNames", "down_proj"): (EVERYTHING, change_names(down_proj="mlp.fc2")),
    ("CheckpointNames", "final_norm"): (EVERYTHING, change_names(final_norm="model.ln_f")),
    ("CheckpointNames", "head"): (EVERYTHING, change_names(head="output")),
}

SPEC_CHANGES: dict[str, tuple[str, Callable[[ArchSpec], ArchSpec]]] = {
    "attention_bias": (EVERYTHING, change(attention_bias=BiasRule.INPUTS)),
    "mlp_bias": (BIASES_TIED, change(mlp_bias=BiasRule.NEVER)),
    "qk_norm": (EVERYTHING, change(qk_norm=False)),
    "windows": (EVERYTHING, change(windows=WindowRule.ALL)),
    "names": (EVERYTHING, change(names=CheckpointNames(gate_proj="mlp.up_proj", up_proj="mlp.gate_proj"))),
}


class Saved:
    """A checkpoint and the logits transformers gives for it."""

    def __init__(self, name: str, directory: Path) -> None:
        reference = build(FAMILIES[name])
        self.directory = save(reference, directory)
        self.config = load_config(directory)
        self.expected = reference_logits(reference, token_sequences())

    def difference(self, config: ModelConfig) -> float:
        """Largest difference of a logit under another configuration; infinite if the checkpoint is refused."""
        try:
            model = load_model(self.directory, TorchBackend(), config=config).model
        except CheckpointError:
            return float("inf")
        return float((full_logits(model, token_sequences()) - self.expected).abs().max())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    return {name: Saved(name, tmp_path_factory.mktemp(name)) for name in (EVERYTHING, BIASES_TIED)}


def test_unchanged_configurations_agree(saved: dict[str, Saved]) -> None:
    assert max(each.difference(each.config) for each in saved.values()) < TOLERANCE


@pytest.mark.parametrize("field", CONFIG_CHANGES, ids=".".join)
def test_each_field_of_the_configuration_matters(field: tuple[str, str], saved: dict[str, Saved]) -> None:
    name, perturb = CONFIG_CHANGES[field]
    assert saved[name].difference(perturb(saved[name].config)) > 20 * TOLERANCE


@pytest.mark.parametrize("field", SPEC_CHANGES)
def test_each_fact_of_a_family_matters(field: str, saved: dict[str, Saved]) -> None:
    name, perturb = SPEC_CHANGES[field]
    path = saved[name].directory / "config.json"
    reader = ConfigReader(read_json(path), path)
    assert saved[name].difference(resolve_config(reader, perturb(find_family(reader)))) > 20 * TOLERANCE


def test_no_field_is_left_out() -> None:
    covered = {*CONFIG_CHANGES, *(("ArchSpec", name) for name in SPEC_CHANGES)}
    covered |= {(owner, name) for owner, names in NO_MATHS.items() for name in names}
    classes = (ModelConfig, ArchSpec, CheckpointNames, RopeParameters, LinearScaling, Llama3Scaling)
    assert covered == {(each.__name__, field.name) for each in classes for field in fields(each)}


def test_each_window_and_bias_matters_in_every_layer(saved: dict[str, Saved]) -> None:
    everything = saved[EVERYTHING]
    for index, window in enumerate(everything.config.windows):
        windows = list(everything.config.windows)
        windows[index] = 9 if window is None else None
        assert everything.difference(replace(everything.config, windows=tuple(windows))) > 20 * TOLERANCE
    biases_tied = saved[BIASES_TIED]
    assert torch.isinf(torch.tensor(biases_tied.difference(replace(biases_tied.config, o_bias=False))))
