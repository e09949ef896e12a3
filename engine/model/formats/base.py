"""What a weight format is: an object that recognises a layer's tensors and builds the layer from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from engine.model.checkpoint import Checkpoint
from engine.ops.backend import Backend, LinearKernel
from engine.ops.backend_memory import BackendMemory

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""Element types of plain weights and biases."""

SEARCHED_AT_ONCE = 1 << 20
"""Entries looked at together when one that is not finite is searched."""


@dataclass(frozen=True, slots=True)
class LinearShape:
    """A linear layer as the model definition wants it.

    Attributes:
        prefix: its name in the checkpoint, e.g. `model.layers.3.mlp.up_proj`.
        in_features: K.
        out_features: true number of outputs, without storage padding.
        bias: whether the layer has one.
        prescale: factor the model definition puts on the matrix (not on the bias).
    """

    prefix: str
    in_features: int
    out_features: int
    bias: bool
    prescale: float = 1.0

    @property
    def weights(self) -> int:
        """Number of weights, padding not counted."""
        return self.in_features * self.out_features


@dataclass(frozen=True, slots=True)
class BuiltLinear:
    """A linear layer ready to run.

    Attributes:
        kernel: computes it.
        format: how it was stored, e.g. `exl2`, `float16`.
        stored_bits: size of the matrix in the checkpoint in bits, bias excluded.
        weights: number of weights, padding not counted; `stored_bits / weights` is the layer's bits per weight.
    """

    kernel: LinearKernel
    format: str
    stored_bits: int
    weights: int


class WeightFormat(Protocol):
    """One way to store a linear layer."""

    @property
    def name(self) -> str:
        """For people and messages."""
        ...

    def detect(self, checkpoint: Checkpoint, prefix: str) -> bool:
        """Whether the layer is stored in this format; looks at names, shapes and element types only."""
        ...

    def tensor_names(self, checkpoint: Checkpoint, prefix: str) -> tuple[str, ...]:
        """Names of the layer's tensors that are there, so that left-over tensors can be found."""
        ...

    def build(self, checkpoint: Checkpoint, shape: LinearShape, backend: Backend) -> BuiltLinear:
        """Read, check and prepare the layer.

        Raises:
            CheckpointError: a tensor is missing or contradicts the format or `shape`.
        """
        ...

    def prepared_bytes(self, checkpoint: Checkpoint, shape: LinearShape, memory: BackendMemory) -> int:
        """What the layer will take once built: `kernel.nbytes`, from names, shapes and element types only.

        Raises:
            CheckpointError: a tensor is missing or of the wrong kind.
        """
        ...

    def group_bytes(self, checkpoint: Checkpoint, shapes: Sequence[LinearShape], memory: BackendMemory) -> int:
        """What layers with the same input will take besides, computed together: at most, for their content decides.

        Raises:
            CheckpointError: a tensor is missing or of the wrong kind.
        """
        ...


class TensorRule(NamedTuple):
    """What a format asks of one tensor."""

    suffix: str  # name after the layer's prefix
    dtypes: tuple[torch.dtype, ...]
    dimensions: int


def tensor_shape(checkpoint: Checkpoint, prefix: str, rule: TensorRule) -> tuple[int, ...]:
    """Shape of a tensor of a layer from its header, held to its element type and number of dimensions.

    Raises:
        CheckpointError: it is missing, or is of another type or rank.
    """
    name = f"{prefix}.{rule.suffix}"
    if checkpoint.dtype(name) not in rule.dtypes:
        wanted = " or ".join(dtype_name(dtype) for dtype in rule.dtypes)
        raise checkpoint.error(name, f"its element type is {dtype_name(checkpoint.dtype(name))}, it must be {wanted}")
    shape = checkpoint.shape(name)
    if len(shape) != rule.dimensions or not math.prod(shape):
        raise checkpoint.error(name, f"its shape is {list(shape)}, it must have {rule.dimensions} non-empty dimensions")
    return shape


def read_tensor(checkpoint: Checkpoint, prefix: str, rule: TensorRule) -> torch.Tensor:
    """Read a tensor of a layer and hold it to its element type and number of dimensions, and to finite numbers.

    Raises:
        CheckpointError: it is missing, is of another type or rank, or has an entry that is NaN or infinite.
    """
    tensor_shape(checkpoint, prefix, rule)
    name = f"{prefix}.{rule.suffix}"
    tensor = checkpoint.tensor(name)
    if tensor.is_floating_point():
        require_finite(checkpoint, name, tensor)
    return tensor


def read_bias(checkpoint: Checkpoint, shape: LinearShape, length: int) -> torch.Tensor | None:
    """The layer's bias [length], or None where it has none.

    Raises:
        CheckpointError: it is missing, there although the layer has none, or malformed.
    """
    name = f"{shape.prefix}.bias"
    if name not in checkpoint:
        if shape.bias:
            raise checkpoint.error(name, "it is missing, but this layer must have a bias")
        return None
    if not shape.bias:
        raise checkpoint.error(name, "it is there, but by config.json this layer has no bias")
    bias = read_tensor(checkpoint, shape.prefix, TensorRule("bias", FLOAT_DTYPES, 1))
    if bias.shape[0] != length:
        raise checkpoint.error(name, f"it has {bias.shape[0]} entries, it must have {length}, one per stored output")
    return bias


def require_finite(checkpoint: Checkpoint, name: str, tensor: torch.Tensor) -> None:
    """Raise CheckpointError if the tensor `name`, which is not empty, has an entry that is NaN or infinite."""
    # the extremes tell, for NaN spreads to both; unlike isfinite() they take no memory as large as the tensor
    if all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor)):
        return
    entries = tensor.flatten()
    for start in range(0, len(entries), SEARCHED_AT_ONCE):
        piece = entries[start : start + SEARCHED_AT_ONCE]
        unusable = piece.isfinite().logical_not().nonzero()
        if len(unusable):
            entry = int(unusable[0])
            raise checkpoint.error(name, f"entry {start + entry} is {float(piece[entry])}, not a finite number")


def layer_tensors(checkpoint: Checkpoint, prefix: str, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the layer's possible tensors that are there."""
    return tuple(name for name in (f"{prefix}.{suffix}" for suffix in suffixes) if name in checkpoint)


def dtype_name(dtype: torch.dtype) -> str:
    """`float16` for `torch.float16`."""
    return str(dtype).removeprefix("torch.")
