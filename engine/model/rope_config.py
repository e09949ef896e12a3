"""Reading rotary embedding parameters from config.json, in the old spelling and in that of transformers 5."""

from __future__ import annotations

from engine.model.config_reader import ConfigReader
from engine.model.rope import LinearScaling, Llama3Scaling, RopeParameters

DEFAULT_THETA = 10_000.0


def read_rope(reader: ConfigReader, max_positions: int) -> RopeParameters:
    """Parameters from `rope_theta` with `rope_scaling`, or from `rope_parameters`, which holds both.

    Args:
        reader: config.json.
        max_positions: original context length where the scaling does not name one.

    Raises:
        CheckpointError: a value is malformed, or the two spellings contradict each other.
        UnsupportedModelError: a kind of scaling, or a key of it, that Quire does not know.
    """
    theta = reader.number("rope_theta", DEFAULT_THETA)
    old, new = reader.section("rope_scaling"), reader.section("rope_parameters")
    if old is not None and new is not None and reader.get("rope_scaling") != reader.get("rope_parameters"):
        raise reader.wrong("rope_scaling", "must equal 'rope_parameters' or be absent")
    name, section = ("rope_parameters", new) if new is not None else ("rope_scaling", old)
    if section is None:
        return RopeParameters(theta)
    theta = section.number("rope_theta", theta)
    kind = _read_kind(section)
    if kind not in ("default", "linear", "llama3"):
        raise reader.unsupported(
            name, f"but of rotary scalings Quire knows 'default', 'linear' and 'llama3', not '{kind}'"
        )
    scaling = _read_scaling(kind, section, max_positions)
    if section.number("partial_rotary_factor", 1.0) != 1.0:
        raise section.unsupported("partial_rotary_factor", "but Quire rotates all features of a head")
    section.refuse_unread()
    return RopeParameters(theta, scaling)


def _read_kind(section: ConfigReader) -> str:
    new, old = section.text("rope_type"), section.text("type")
    if new is not None and old is not None and new != old:
        raise section.wrong("type", f"must be the same as 'rope_type' ('{new}')")
    return new or old or "default"


def _read_scaling(kind: str, section: ConfigReader, max_positions: int) -> LinearScaling | Llama3Scaling | None:
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(section.number("factor"))
    scaling = Llama3Scaling(
        factor=section.number("factor"),
        low_freq_factor=section.number("low_freq_factor"),
        high_freq_factor=section.number("high_freq_factor"),
        original_max_positions=section.integer("original_max_position_embeddings", max_positions),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise section.wrong("high_freq_factor", f"must exceed low_freq_factor ({scaling.low_freq_factor})")
    return scaling
