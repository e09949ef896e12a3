"""What sets one model family apart from another: a row of facts each, and no code.

A new family that is like Llama is a new row. Where a family needs a fact that no field states, the field is added
here, read in `config.py` or by the decoder, and left at its default by the other rows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.model.names import CheckpointNames


class BiasRule(enum.Enum):
    """Which matrices of a block have a bias."""

    NEVER = "never"
    CONFIGURED = "configured"  # all or none, as `attention_bias` or `mlp_bias` in config.json says
    INPUTS = "inputs"  # q, k and v always, o never


class WindowRule(enum.Enum):
    """Which layers see only a sliding window of the latest positions."""

    NEVER = "never"
    ALL = "all"  # every layer, where `sliding_window` in config.json is a number
    SWITCHED = "switched"  # where `use_sliding_window` is true: the layers `layer_types` or `max_window_layers` names


@dataclass(frozen=True, slots=True)
class ArchSpec:
    """Facts of one family.

    Attributes:
        architecture: name in `architectures` of config.json.
        model_type: name in `model_type` of config.json.
        attention_bias: biases of the attention matrices.
        mlp_bias: biases of the MLP matrices.
        qk_norm: queries and keys are RMS-normalised per head, before the rotary embedding.
        windows: layers with sliding-window attention.
        default_window: window where config.json has no `sliding_window` at all (null there means none).
        default_head_dim: size of a head where config.json has no `head_dim`; None means hidden_size / heads.
        names: names of the tensors.
    """

    architecture: str
    model_type: str
    attention_bias: BiasRule = BiasRule.NEVER
    mlp_bias: BiasRule = BiasRule.NEVER
    qk_norm: bool = False
    windows: WindowRule = WindowRule.NEVER
    default_window: int | None = None
    default_head_dim: int | None = None
    names: CheckpointNames = CheckpointNames()


FAMILIES: tuple[ArchSpec, ...] = (
    ArchSpec("LlamaForCausalLM", "llama", attention_bias=BiasRule.CONFIGURED, mlp_bias=BiasRule.CONFIGURED),
    ArchSpec("MistralForCausalLM", "mistral", windows=WindowRule.ALL, default_window=4096),
    ArchSpec(
        "Qwen2ForCausalLM",
        "qwen2",
        attention_bias=BiasRule.INPUTS,
        windows=WindowRule.SWITCHED,
        default_window=4096,
    ),
    ArchSpec(
        "Qwen3ForCausalLM",
        "qwen3",
        attention_bias=BiasRule.CONFIGURED,
        qk_norm=True,
        windows=WindowRule.SWITCHED,
        default_window=4096,
        default_head_dim=128,
    ),
)
