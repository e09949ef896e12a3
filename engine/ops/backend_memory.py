"""What a backend takes of its device's memory, told from shapes alone, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Exl2Shape:
    """An EXL2 matrix as the headers of its tensors describe it.

    Attributes:
        in_features: K.
        out_features: true number of outputs.
        words: rows of `q_weight`.
        groups: G.
        bias: whether there is one.
    """

    in_features: int
    out_features: int
    words: int
    groups: int
    bias: bool


@dataclass(frozen=True, slots=True)
class StepShape:
    """The largest step there will be.

    Attributes:
        tokens: in the step.
        widest_input: features the widest matrix takes.
        num_heads: query heads.
        num_kv_heads: heads of keys and values.
        head_dim: features per head.
    """

    tokens: int
    widest_input: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


class BackendMemory(Protocol):
    """The memory of a backend's device, and what the backend will take of it. All figures in bytes."""

    def free(self) -> int:
        """What may still be taken now.

        Raises:
            CapacityError: the system does not tell.
        """
        ...

    def dense(self, in_features: int, out_features: int, dtype: torch.dtype, bias: bool) -> int:
        """What `Backend.prepare_dense` keeps of a matrix: its kernel's `nbytes`."""
        ...

    def exl2(self, shape: Exl2Shape) -> int:
        """What `Backend.prepare_exl2` keeps of a matrix: its kernel's `nbytes`."""
        ...

    def exl2_group(self, shapes: Sequence[Exl2Shape]) -> int:
        """What `Backend.prepare_group` keeps besides such matrices, if they can be a group: its kernel's `nbytes`."""
        ...

    def scratch(self, step: StepShape) -> int:
        """What the ops of a step need besides their inputs and outputs, however long the sequences are."""
        ...

    def scratch_per_position(self, step: StepShape) -> int:
        """What they need on top for each position of the longest sequence."""
        ...
