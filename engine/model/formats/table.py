"""Every weight format, and the choice among them, made layer by layer so that mixed checkpoints work."""

from __future__ import annotations

from engine.errors import UnsupportedModelError
from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import BuiltLinear, LinearShape, WeightFormat, dtype_name
from engine.model.formats.dense import DenseFormat
from engine.model.formats.exl2 import Exl2Format
from engine.model.formats.foreign import foreign_format
from engine.ops.backend import Backend

FORMATS: tuple[WeightFormat, ...] = (Exl2Format(), DenseFormat())
"""Formats in the order in which they are tried."""


def has_linear(checkpoint: Checkpoint, prefix: str) -> bool:
    """Whether the checkpoint has a matrix of this name, in whatever format; `format_of` tells whether it is readable.

    Tied models need it: the output head is the embedding only where the checkpoint has no head of its own.
    """
    if f"{prefix}.weight" in checkpoint or foreign_format(checkpoint, prefix) is not None:
        return True
    return any(each.detect(checkpoint, prefix) for each in FORMATS)


def format_of(checkpoint: Checkpoint, prefix: str) -> WeightFormat:
    """The format a layer is stored in.

    Raises:
        UnsupportedModelError: the layer is in a format Quire recognises but does not read; the message names it.
        CheckpointError: nothing of the layer is there.
    """
    foreign = foreign_format(checkpoint, prefix)
    if foreign is not None:
        readable = ", ".join(each.name for each in FORMATS)
        raise UnsupportedModelError(
            f"{prefix} in {checkpoint.directory} is stored as {foreign}, which Quire does not read; it reads {readable}"
        )
    for each in FORMATS:
        if each.detect(checkpoint, prefix):
            return each
    weight = f"{prefix}.weight"
    if weight in checkpoint:
        raise checkpoint.error(
            weight,
            f"its element type is {dtype_name(checkpoint.dtype(weight))}, which no known format uses for weights",
        )
    raise checkpoint.error(
        prefix, "the layer is missing: there is neither .q_weight (EXL2) nor a floating-point .weight (dense)"
    )


def build_linear(checkpoint: Checkpoint, shape: LinearShape, backend: Backend) -> BuiltLinear:
    """Read, check and prepare one linear layer, in whatever format it is stored.

    Raises:
        UnsupportedModelError: the layer is in a format Quire recognises but does not read.
        CheckpointError: the layer is missing, malformed, or not of the shape the model definition asks for.
    """
    return format_of(checkpoint, shape.prefix).build(checkpoint, shape, backend)
