"""A model's config.json, checked and resolved: every default filled in, every rule of its family applied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UnsupportedModelError
from engine.model.arch import FAMILIES, ArchSpec, BiasRule, WindowRule
from engine.model.config_reader import ConfigReader, read_json
from engine.model.rope import RopeParameters
from engine.model.rope_config import read_rope

DEFAULT_MAX_POSITIONS = 2048
DEFAULT_MAX_WINDOW_LAYERS = 28
MOST_LAYERS = 10_000
"""More than any model has: beyond it a configuration is damaged, and believing it would fill the memory."""

HARMLESS_KEYS = frozenset(
    {
        # how the file came about, and what other programs do with it
        "_name_or_path",
        "_commit_hash",
        "transformers_version",
        "tokenizer_class",
        "unsloth_version",
        "unsloth_fixed",
        "use_cache",
        "eos_token_id",  # read with the other defaults of answers, engine/text/defaults.py
        "pad_token_id",
        "dtype",
        "torch_dtype",
        "pretraining_tp",
        "quantization_config",
        "return_dict",
        "torchscript",
        "_attn_implementation",
        "attn_implementation",
        "_flash_attn_2_enabled",
        "use_flash_attn",
        "output_attentions",
        "output_hidden_states",
        "id2label",
        "label2id",
        "problem_type",
        "task_specific_params",
        "max_sequence_length",
        # training only
        "initializer_range",
        "attention_dropout",
        "hidden_dropout",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "gradient_checkpointing",
    }
)
"""Keys that say nothing about what the model computes. Weight formats are recognised by the tensors themselves."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a decoder computes.

    Attributes:
        architecture: as in config.json, e.g. `LlamaForCausalLM`.
        spec: facts of the family.
        vocab_size: rows of the embedding and number of logits.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the MLP.
        num_layers: decoder layers.
        num_heads: query heads.
        num_kv_heads: key and value heads; divides num_heads.
        head_dim: features of one head; even.
        max_position_embeddings: context length the model was made for.
        rms_norm_eps: added to the mean square in every norm.
        rope: rotary embedding.
        windows: per layer, how many latest positions a token sees, itself included; None for all.
        qkv_bias: q, k and v have a bias.
        o_bias: o has a bias.
        mlp_bias: gate, up and down have a bias.
        tie_word_embeddings: the embedding serves as output head, where the checkpoint has none of its own.
        bos_token_id: token that begins a text, if there is one.
    """

    architecture: str
    spec: ArchSpec
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeParameters
    windows: tuple[int | None, ...]
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    tie_word_embeddings: bool
    bos_token_id: int | None

    @property
    def attention_scale(self) -> float:
        """Factor on q·k."""
        return float(self.head_dim**-0.5)


def load_config(directory: Path, ignore_keys: tuple[str, ...] = ()) -> ModelConfig:
    """Read config.json.

    Args:
        directory: model directory.
        ignore_keys: keys of config.json to treat as absent; a key of an inner object is spelled `outer.inner`.

    Raises:
        CheckpointError: the file is missing or malformed, or a value is of the wrong type or makes no sense.
        UnsupportedModelError: the family, or a key that may change what the model computes, is not known to Quire.
    """
    path = directory / "config.json"
    reader = ConfigReader(read_json(path), path, ignore_keys)
    config = resolve_config(reader, find_family(reader))
    reader.refuse_unread(HARMLESS_KEYS)
    return config


def find_family(reader: ConfigReader) -> ArchSpec:
    """The family `architectures` names, or `model_type` where there is no `architectures`.

    Raises:
        CheckpointError: neither is there, or `architectures` is not a list of one name.
        UnsupportedModelError: the family is not known to Quire, or the two do not belong together.
    """
    model_type, architectures = reader.text("model_type"), reader.get("architectures")
    if architectures is None:
        if model_type is None:
            raise reader.wrong("architectures", 'must name the model\'s class, e.g. ["LlamaForCausalLM"]')
        family = next((each for each in FAMILIES if each.model_type == model_type), None)
        if family is None:
            raise _unknown_family(reader.path, model_type, [each.model_type for each in FAMILIES])
        return family
    if not isinstance(architectures, list) or len(architectures) != 1 or not isinstance(architectures[0], str):
        raise reader.wrong("architectures", "must be a list of exactly one name")
    family = next((each for each in FAMILIES if each.architecture == architectures[0]), None)
    if family is None:
        raise _unknown_family(reader.path, architectures[0], [each.architecture for each in FAMILIES])
    if model_type not in (None, family.model_type):
        raise reader.unsupported("model_type", f"which does not go with {family.architecture}")
    return family


def _unknown_family(path: Path, name: str, known: list[str]) -> UnsupportedModelError:
    return UnsupportedModelError(f"{path}: Quire does not know the architecture '{name}'; it knows {', '.join(known)}.")


def resolve_config(reader: ConfigReader, spec: ArchSpec) -> ModelConfig:
    """Apply the rules of a family to config.json. Keys that nothing here reads are left to the caller to refuse.

    Args:
        reader: config.json.
        spec: the family.

    Raises:
        CheckpointError: a value is missing, of the wrong type, or makes no sense.
        UnsupportedModelError: a value asks for something Quire does not implement.
    """
    if (reader.text("hidden_act") or "silu") not in ("silu", "swish"):
        raise reader.unsupported("hidden_act", "but Quire knows only 'silu'")
    num_heads, num_kv_heads, head_dim = _read_heads(reader, spec)
    num_layers = reader.integer("num_hidden_layers", maximum=MOST_LAYERS)
    max_positions = reader.integer("max_position_embeddings", DEFAULT_MAX_POSITIONS)
    qkv_bias, o_bias = _read_attention_bias(reader, spec.attention_bias)
    return ModelConfig(
        architecture=spec.architecture,
        spec=spec,
        vocab_size=reader.integer("vocab_size"),
        hidden_size=reader.integer("hidden_size"),
        intermediate_size=reader.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_positions,
        rms_norm_eps=reader.number("rms_norm_eps"),
        rope=read_rope(reader, max_positions),
        windows=_read_windows(reader, spec, num_layers),
        qkv_bias=qkv_bias,
        o_bias=o_bias,
        mlp_bias=spec.mlp_bias is BiasRule.CONFIGURED and reader.flag("mlp_bias", False),
        tie_word_embeddings=reader.flag("tie_word_embeddings", False),
        bos_token_id=_read_bos(reader),
    )


def _read_bos(reader: ConfigReader) -> int | None:
    """The token that begins a text, the first where there is a list of them."""
    value: Any = reader.get("bos_token_id")
    ids = value if isinstance(value, list) else [value]
    if not all(each is None or (type(each) is int and each >= 0) for each in ids):
        raise reader.wrong("bos_token_id", "must be a token id or a list of token ids")
    return next(iter(ids), None)


def _read_heads(reader: ConfigReader, spec: ArchSpec) -> tuple[int, int, int]:
    """Query heads, key heads, and features of a head."""
    hidden_size, num_heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    num_kv_heads = reader.integer("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise reader.wrong("num_key_value_heads", f"must divide num_attention_heads ({num_heads})")
    if reader.get("head_dim") is None and spec.default_head_dim is None and hidden_size % num_heads:
        raise reader.wrong("num_attention_heads", f"must divide hidden_size ({hidden_size})")
    head_dim = reader.integer("head_dim", spec.default_head_dim or hidden_size // num_heads)
    if head_dim % 2:
        raise reader.wrong("head_dim", f"must be even for the rotary embedding (it comes to {head_dim})")
    return num_heads, num_kv_heads, head_dim


def _read_attention_bias(reader: ConfigReader, rule: BiasRule) -> tuple[bool, bool]:
    """Whether q, k and v have a bias, and whether o has."""
    if rule is BiasRule.CONFIGURED:
        everywhere = reader.flag("attention_bias", False)
        return everywhere, everywhere
    return rule is BiasRule.INPUTS, False


def _read_windows(reader: ConfigReader, spec: ArchSpec, num_layers: int) -> tuple[int | None, ...]:
    """The window of every layer."""
    if spec.windows is WindowRule.NEVER:
        return (None,) * num_layers
    window = None
    if "sliding_window" not in reader:
        window = spec.default_window
    elif reader.get("sliding_window") is not None:
        window = reader.integer("sliding_window")
    if spec.windows is WindowRule.ALL:
        return (window,) * num_layers
    if not reader.flag("use_sliding_window", False):
        window = None
    sliding = _sliding_layers(reader, num_layers)
    if window is None and any(sliding) and reader.get("layer_types") is not None:
        raise reader.wrong("layer_types", "asks for sliding windows, so use_sliding_window and sliding_window must too")
    return tuple(window if each else None for each in sliding)


def _sliding_layers(reader: ConfigReader, num_layers: int) -> tuple[bool, ...]:
    """Which layers have a window: those `layer_types` says, else those from `max_window_layers` on."""
    first = reader.integer("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS, minimum=0)
    kinds = reader.get("layer_types")
    if kinds is None:
        return tuple(index >= first for index in range(num_layers))
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise reader.wrong("layer_types", f"must be a list with one entry for each of the {num_layers} layers")
    unknown = next((kind for kind in kinds if kind not in ("full_attention", "sliding_attention")), None)
    if unknown is not None:
        raise reader.unsupported("layer_types", "but Quire knows only 'full_attention' and 'sliding_attention'")
    return tuple(kind == "sliding_attention" for kind in kinds)
