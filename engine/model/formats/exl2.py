"""EXL2 layers in a checkpoint: finding, checking, reading and naming their tensors.

The checks include what the original loader leaves out (docs/formats.md): a file that breaks a rule is refused with the
tensor and the fact, instead of decoding to garbage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import (
    BuiltLinear,
    LinearShape,
    TensorRule,
    layer_tensors,
    read_bias,
    read_tensor,
    tensor_shape,
)
from engine.ops.backend import Backend
from engine.ops.backend_memory import BackendMemory, Exl2Shape
from engine.ops.exl2 import (
    CODES_PER_SCALE_WORD,
    ROW_MULTIPLE,
    Exl2Tensors,
    RowGroup,
    permutation_fault,
    row_groups,
    stored_bits,
)

Q_WEIGHT = TensorRule("q_weight", (torch.int32,), 2)
Q_INVPERM = TensorRule("q_invperm", (torch.int32,), 1)
Q_SCALE = TensorRule("q_scale", (torch.int32,), 2)
Q_SCALE_MAX = TensorRule("q_scale_max", (torch.float16,), 1)
Q_GROUPS = TensorRule("q_groups", (torch.int16,), 1)

OBSOLETE_SUFFIX = "q_perm"
"""In some old files; says no more than `q_invperm`, and no reader uses it."""

SUFFIXES = tuple(rule.suffix for rule in (Q_WEIGHT, Q_INVPERM, Q_SCALE, Q_SCALE_MAX, Q_GROUPS))


class Exl2Format:
    """The five `P.q_…` tensors and, where the layer has one, `P.bias`."""

    name = "exl2"

    def detect(self, checkpoint: Checkpoint, prefix: str) -> bool:
        """Whether any of the five tensors is there; one that is missing is then reported by name."""
        return any(f"{prefix}.{suffix}" in checkpoint for suffix in SUFFIXES)

    def tensor_names(self, checkpoint: Checkpoint, prefix: str) -> tuple[str, ...]:
        """The tensors that are there, in the order of the format."""
        return layer_tensors(checkpoint, prefix, (*SUFFIXES, "bias", OBSOLETE_SUFFIX))

    def build(self, checkpoint: Checkpoint, shape: LinearShape, backend: Backend) -> BuiltLinear:
        """Read, check and prepare the layer.

        Raises:
            CheckpointError: a tensor is missing, malformed or contradicts another one or `shape`.
        """
        tensors = load_exl2(checkpoint, shape)
        return BuiltLinear(
            kernel=backend.prepare_exl2(tensors),
            format=self.name,
            stored_bits=stored_bits(tensors),
            weights=shape.weights,
        )

    def prepared_bytes(self, checkpoint: Checkpoint, shape: LinearShape, memory: BackendMemory) -> int:
        """What the backend will keep of the five tensors and the bias.

        Raises:
            CheckpointError: a tensor is missing or of the wrong kind.
        """
        return memory.exl2(_described(checkpoint, shape))

    def group_bytes(self, checkpoint: Checkpoint, shapes: Sequence[LinearShape], memory: BackendMemory) -> int:
        """What the backend will keep besides if the layers store their rows in the same order, as they usually do.

        Raises:
            CheckpointError: a tensor is missing or of the wrong kind.
        """
        return memory.exl2_group([_described(checkpoint, shape) for shape in shapes])


def load_exl2(checkpoint: Checkpoint, shape: LinearShape) -> Exl2Tensors:
    """Read one EXL2 layer and hold it to every rule of the format and to the model's idea of its shape.

    Raises:
        CheckpointError: a tensor is missing, malformed or contradicts another one or `shape`.
    """
    prefix = shape.prefix
    tensors = Exl2Tensors(
        q_weight=read_tensor(checkpoint, prefix, Q_WEIGHT),
        q_invperm=read_tensor(checkpoint, prefix, Q_INVPERM),
        q_scale=read_tensor(checkpoint, prefix, Q_SCALE),
        q_scale_max=read_tensor(checkpoint, prefix, Q_SCALE_MAX),
        q_groups=read_tensor(checkpoint, prefix, Q_GROUPS),
        bias=None,
        out_features=shape.out_features,
        prescale=shape.prescale,
    )
    groups = _check_groups(checkpoint, shape, tensors)
    _check_permutation(checkpoint, prefix, tensors.q_invperm, shape.in_features)
    _check_outputs(checkpoint, shape, tensors)
    _check_scales(checkpoint, prefix, tensors, len(groups))
    return replace(tensors, bias=read_bias(checkpoint, shape, tensors.stored_outputs))


def exl2_state(prefix: str, tensors: Exl2Tensors) -> dict[str, torch.Tensor]:
    """The tensors of a layer under their names in a checkpoint: what `load_exl2` reads back."""
    named = {f"{prefix}.{suffix}": tensor for suffix in SUFFIXES if (tensor := getattr(tensors, suffix)) is not None}
    if tensors.bias is not None:
        named[f"{prefix}.bias"] = tensors.bias
    return named


def _described(checkpoint: Checkpoint, shape: LinearShape) -> Exl2Shape:
    """The layer as its headers have it."""
    words, _ = tensor_shape(checkpoint, shape.prefix, Q_WEIGHT)
    groups, _ = tensor_shape(checkpoint, shape.prefix, Q_SCALE)
    return Exl2Shape(shape.in_features, shape.out_features, words, groups, bias=shape.bias)


def _check_groups(checkpoint: Checkpoint, shape: LinearShape, tensors: Exl2Tensors) -> tuple[RowGroup, ...]:
    """The group table is well formed, covers `q_weight` and adds up to the layer's inputs."""
    name = f"{shape.prefix}.q_groups"
    try:
        groups = row_groups(tensors.q_groups, tensors.q_weight.shape[0])
    except CheckpointError as error:
        raise checkpoint.error(name, str(error).removeprefix("q_groups: ")) from error
    rows = groups[-1].first_row + groups[-1].rows
    if rows != shape.in_features:
        raise checkpoint.error(
            name,
            f"its groups and the {tensors.q_weight.shape[0]} word rows of q_weight make {rows} input rows, "
            f"config.json asks for {shape.in_features}",
        )
    return groups


def _check_permutation(checkpoint: Checkpoint, prefix: str, q_invperm: torch.Tensor, in_features: int) -> None:
    """`q_invperm` holds each stored row once."""
    name = f"{prefix}.q_invperm"
    if q_invperm.shape[0] != in_features:
        raise checkpoint.error(name, f"it has {q_invperm.shape[0]} entries, the layer has {in_features} inputs")
    fault = permutation_fault(q_invperm)
    if fault is not None:
        raise checkpoint.error(name, fault)


def _check_outputs(checkpoint: Checkpoint, shape: LinearShape, tensors: Exl2Tensors) -> None:
    """`q_weight` has the layer's outputs, padded to the next multiple of 32 and no further."""
    stored = tensors.stored_outputs
    expected = shape.out_features + -shape.out_features % ROW_MULTIPLE
    if stored != expected:
        padding = "" if expected == shape.out_features else f", which are stored as {expected}"
        raise checkpoint.error(
            f"{shape.prefix}.q_weight",
            f"it has {stored} columns, config.json asks for {shape.out_features} outputs{padding}",
        )


def _check_scales(checkpoint: Checkpoint, prefix: str, tensors: Exl2Tensors, groups: int) -> None:
    """There is a scale code for every group and column, and a sensible largest scale for every group."""
    name = f"{prefix}.q_scale"
    expected = (groups, tensors.stored_outputs // CODES_PER_SCALE_WORD)
    if tuple(tensors.q_scale.shape) != expected:
        raise checkpoint.error(
            name,
            f"its shape is {list(tensors.q_scale.shape)}; {groups} groups and {tensors.stored_outputs} columns "
            f"need {list(expected)}",
        )
    name = f"{prefix}.q_scale_max"
    if tensors.q_scale_max.shape[0] != groups:
        raise checkpoint.error(name, f"it has {tensors.q_scale_max.shape[0]} entries, there are {groups} groups")
    if float(tensors.q_scale_max.min()) < 0:
        group = int(tensors.q_scale_max.argmin())
        raise checkpoint.error(name, f"entry {group} is {float(tensors.q_scale_max[group])}; a scale is never negative")
