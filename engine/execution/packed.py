"""Several small arrays in one run of bytes, so that one copy brings them all to a device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

ALIGNMENT = 16
"""Every array starts at a multiple of this many bytes: what the widest loads of a kernel ask for."""

_TORCH_TYPES: dict[np.dtype[np.generic], torch.dtype] = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One of the arrays.

    Attributes:
        shape: of the array, row-major.
        dtype: uint8, int32, int64, float32 or float64.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class PackedLayout:
    """Where each of some named arrays lies.

    Attributes:
        offsets: of each array, in bytes.
        nbytes: what all of them take.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)
        self.offsets: dict[str, int] = {}
        end = 0
        for name, field in fields.items():
            self.offsets[name] = end
            end += field.nbytes + -field.nbytes % ALIGNMENT
        self.nbytes = end

    def arrays(self, buffer: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays that lie in a buffer of bytes, as views of it."""
        return {
            name: buffer[self._bytes_of(name)].view(field.dtype).reshape(field.shape)
            for name, field in self._fields.items()
        }

    def tensors(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        """The same for a tensor of uint8."""
        return {
            name: buffer[self._bytes_of(name)].view(_TORCH_TYPES[field.dtype]).view(field.shape)
            for name, field in self._fields.items()
        }

    def _bytes_of(self, name: str) -> slice:
        return slice(self.offsets[name], self.offsets[name] + self._fields[name].nbytes)
