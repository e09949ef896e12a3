"""config.json: both spellings, every family's rules, and everything that must be refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import MistralConfig, Qwen2Config, Qwen3Config

from engine.config import EngineConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.model.arch import FAMILIES
from engine.model.config import DEFAULT_MAX_WINDOW_LAYERS, ModelConfig, load_config
from engine.model.rope import LinearScaling, Llama3Scaling, RopeParameters
from engine.model.rope_config import DEFAULT_THETA
from quire.arguments import ArgumentParser, from_command_line
from quire.configuration import add_model_options
from quire.settings import resolve

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def family(architecture: str, model_type: str) -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": model_type}


MISTRAL = family("MistralForCausalLM", "mistral")
QWEN2 = family("Qwen2ForCausalLM", "qwen2")
QWEN3 = family("Qwen3ForCausalLM", "qwen3")


def load(tmp_path: Path, changes: dict[str, Any], ignore: tuple[str, ...] = (), drop: str = "") -> ModelConfig:
    values = {key: value for key, value in {**LLAMA, **changes}.items() if key != drop}
    (tmp_path / "config.json").write_text(json.dumps(values))
    return load_config(tmp_path, ignore)


def test_defaults_of_llama(tmp_path: Path) -> None:
    config = load(tmp_path, {})
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (4, 2, 16)
    assert config.rope == RopeParameters(DEFAULT_THETA)
    assert config.windows == (None,) * 4
    assert (config.qkv_bias, config.o_bias, config.mlp_bias, config.tie_word_embeddings) == (False,) * 4
    assert config.bos_token_id is None
    assert config.attention_scale == 0.25
    assert load(tmp_path, {}, drop="num_key_value_heads").num_kv_heads == 4


def test_llama_biases_follow_the_config(tmp_path: Path) -> None:
    config = load(tmp_path, {"attention_bias": True})
    assert (config.qkv_bias, config.o_bias, config.mlp_bias) == (True, True, False)
    assert load(tmp_path, {"mlp_bias": True}).mlp_bias


def test_qwen2_biases_follow_the_family(tmp_path: Path) -> None:
    config = load(tmp_path, QWEN2)
    assert (config.qkv_bias, config.o_bias, config.mlp_bias) == (True, False, False)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({**MISTRAL, "sliding_window": 8}, (8, 8, 8, 8)),
        ({**MISTRAL, "sliding_window": None}, (None,) * 4),
        (MISTRAL, (4096,) * 4),
        ({**QWEN2, "sliding_window": 8, "use_sliding_window": False, "max_window_layers": 1}, (None,) * 4),
        ({**QWEN2, "sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3}, (None, None, None, 8)),
        ({**QWEN2, "sliding_window": 8, "use_sliding_window": True}, (None,) * 4),
        ({**QWEN2, "sliding_window": None, "use_sliding_window": True, "max_window_layers": 0}, (None,) * 4),
        (
            {
                **QWEN3,
                "sliding_window": 8,
                "use_sliding_window": True,
                "max_window_layers": 0,
                "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            },
            (None, 8, 8, None),
        ),
    ],
)
def test_windows(changes: dict[str, Any], windows: tuple[int | None, ...], tmp_path: Path) -> None:
    assert load(tmp_path, changes).windows == windows


def test_defaults_are_those_of_transformers() -> None:
    specs = {spec.model_type: spec for spec in FAMILIES}
    assert specs["mistral"].default_window == MistralConfig().sliding_window
    for name, config_class in (("qwen2", Qwen2Config), ("qwen3", Qwen3Config)):
        config = config_class(use_sliding_window=True)
        assert specs[name].default_window == config.sliding_window
        assert config.max_window_layers == DEFAULT_MAX_WINDOW_LAYERS
        assert config.rope_parameters is not None
        assert config.rope_parameters["rope_theta"] == DEFAULT_THETA
        assert specs[name].default_head_dim == getattr(config, "head_dim", None)


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "rope_type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
        {"rope_theta": 1.0, "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
    ],
)
def test_llama3_rope_in_every_spelling(spelling: dict[str, Any], tmp_path: Path) -> None:
    assert load(tmp_path, spelling).rope == RopeParameters(5e5, Llama3Scaling(8.0, 1.0, 4.0, 64))


def test_other_rope_scalings(tmp_path: Path) -> None:
    linear = load(tmp_path, {"rope_scaling": {"type": "linear", "factor": 2}})
    assert linear.rope == RopeParameters(DEFAULT_THETA, LinearScaling(2.0))
    default = load(tmp_path, {"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}})
    assert default.rope == RopeParameters(7e4)
    scaling = {key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}
    unnamed = load(tmp_path, {"rope_scaling": {"rope_type": "llama3", **scaling}})
    assert unnamed.rope.scaling == Llama3Scaling(8.0, 1.0, 4.0, 256)


@pytest.mark.parametrize(("bos", "expected"), [(3, 3), ([5, 3], 5), ([], None), (None, None)])
def test_the_token_that_begins_a_text(bos: Any, expected: int | None, tmp_path: Path) -> None:
    assert load(tmp_path, {"bos_token_id": bos}).bos_token_id == expected


def test_model_type_alone_is_enough(tmp_path: Path) -> None:
    assert load(tmp_path, {"model_type": "qwen3"}, drop="architectures").architecture == "Qwen3ForCausalLM"


@pytest.mark.parametrize(
    "harmless",
    [
        {"initializer_range": 0.02, "use_cache": True, "transformers_version": "4.41.2", "pretraining_tp": 1},
        {"_name_or_path": "x/y", "attention_dropout": 0.1, "pad_token_id": 0, "quantization_config": {"bits": 4.0}},
        {"some_feature": None, "other_feature": False, "pruned_heads": {}, "tags": []},
        {"hidden_act": "silu", "rope_scaling": None},
    ],
)
def test_harmless_keys_pass(harmless: dict[str, Any], tmp_path: Path) -> None:
    assert load(tmp_path, harmless) == load(tmp_path, {})


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping", "50.0"),
        ({"logits_scaling": 0.5}, "logits_scaling", "0.5"),
        ({"sliding_window": 128}, "sliding_window", "128"),
        ({**MISTRAL, "attention_bias": True}, "attention_bias", "true"),
        ({**QWEN3, "mlp_bias": True}, "mlp_bias", "true"),
        ({"hidden_act": "gelu"}, "hidden_act", '"gelu"'),
        ({"model_type": "mistral"}, "model_type", '"mistral"'),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling", "yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0, "beta": 3}}, "rope_scaling.beta", "3"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor", "0.5"),
        ({**QWEN3, "layer_types": ["chunked_attention"] * 4}, "layer_types", "chunked_attention"),
    ],
)
def test_keys_that_change_the_maths_are_refused_by_name(
    changes: dict[str, Any], key: str, value: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        load(tmp_path, changes)
    message = str(caught.value)
    assert f"'{key}' is " in message
    assert value in message
    assert "ignore_config_keys" in message
    assert isinstance(load(tmp_path, changes, ignore=_follow(message)), ModelConfig)


def _follow(message: str) -> tuple[str, ...]:
    """Keys to ignore when the command line gets what a message tells to pass."""
    advice = re.search(r"pass (--\S+ \S+)", message)
    assert advice is not None
    parser = ArgumentParser("quire", "")
    add_model_options(parser)
    given = from_command_line(parser.parse(advice[1].split()))
    return resolve(EngineConfig, [given]).config.ignore_config_keys


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "does not know the architecture 'GPT2LMHeadModel'; it knows Llama"),
    ],
)
def test_unknown_architectures(changes: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=fragment):
        load(tmp_path, changes)
    with pytest.raises(UnsupportedModelError, match="'gpt2'; it knows llama"):
        load(tmp_path, {"model_type": "gpt2"}, drop="architectures")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"vocab_size": None}, "'vocab_size' is missing"),
        ({"hidden_size": "64"}, "'hidden_size' must be a whole number"),
        ({"hidden_size": 64.5}, "'hidden_size' must be a whole number"),
        ({"hidden_size": True}, "'hidden_size' must be a whole number"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be a whole number of at least 1, not 0"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' must be at most 10000, not 1000000000"),
        ({"num_attention_heads": -4}, "'num_attention_heads' must be"),
        ({"num_key_value_heads": 3}, "'num_key_value_heads' must divide num_attention_heads"),
        ({"num_attention_heads": 6, "num_key_value_heads": 6}, "'num_attention_heads' must divide hidden_size"),
        ({"head_dim": 15}, "'head_dim' must be even"),
        ({"rms_norm_eps": -1e-5}, "'rms_norm_eps' must be a number above 0"),
        ({"rms_norm_eps": float("nan")}, "'rms_norm_eps' must be a number above 0"),
        ({"rms_norm_eps": float("inf")}, "'rms_norm_eps' must be a number above 0"),
        ({"rope_theta": 0}, "'rope_theta' must be a number above 0"),
        ({"rope_scaling": "linear"}, "'rope_scaling' must be an object"),
        ({"rope_scaling": {"type": "linear"}}, "'rope_scaling.factor' is missing"),
        ({"rope_scaling": {"type": "linear", "rope_type": "llama3"}}, "'rope_scaling.type' must be the same"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}}, "must exceed low_freq_factor"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
            "'rope_scaling' must equal 'rope_parameters'",
        ),
        ({"tie_word_embeddings": "yes"}, "'tie_word_embeddings' must be true or false"),
        ({"hidden_act": 3}, "'hidden_act' must be a string"),
        ({"bos_token_id": "<s>"}, "'bos_token_id' must be a token id"),
        ({"bos_token_id": [1, -2]}, "'bos_token_id' must be a token id"),
        ({"architectures": "LlamaForCausalLM"}, "'architectures' must be a list of exactly one name"),
        ({"architectures": ["A", "B"]}, "'architectures' must be a list of exactly one name"),
        ({"architectures": None, "model_type": None}, "'architectures' must name the model's class"),
        ({**QWEN2, "layer_types": ["full_attention"]}, "'layer_types' must be a list with one entry for each"),
        ({**QWEN2, "layer_types": ["sliding_attention"] * 4}, "'layer_types' asks for sliding windows"),
        ({**MISTRAL, "sliding_window": 0}, "'sliding_window' must be a whole number of at least 1"),
    ],
)
def test_values_out_of_sense(changes: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path, changes)
    assert fragment in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (None, "does not exist"),
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[1, 2]", "must hold a JSON object"),
    ],
)
def test_unreadable_files(content: bytes | None, fragment: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=fragment):
        load_config(tmp_path)
