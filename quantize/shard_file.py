"""Writing a safetensors file tensor by tensor, with none of them kept in memory.

The format puts a header with all sizes first, so the data go to a file of their own until they are complete.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import torch

from engine.model.checkpoint import DTYPES, LENGTH_BYTES

METADATA = {"format": "pt"}  # some readers insist on it
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNMENT = 8
COPIED_AT_ONCE = 1 << 22


class ShardFile:
    """One file in the making.

    Args:
        path: what it will be called once `close` has been called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nbytes = 0
        self._spool = path.with_name(f"{path.name}.data")
        self._data = self._spool.open("w+b")
        self._tensors: dict[str, tuple[torch.dtype, tuple[int, ...], int, int]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors so far."""
        return tuple(self._tensors)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append a tensor; it is written at once."""
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        self._data.write(data.data)
        self._tensors[name] = (tensor.dtype, tuple(tensor.shape), self.nbytes, data.nbytes)
        self.nbytes += data.nbytes

    def close(self) -> None:
        """Put header and data together, the widest element types first so that each tensor is aligned."""
        order = sorted(self._tensors, key=lambda name: -self._tensors[name][0].itemsize)
        header: dict[str, object] = {"__metadata__": METADATA}
        offset = 0
        for name in order:
            dtype, shape, _, size = self._tensors[name]
            facts = {"dtype": DTYPE_NAMES[dtype], "shape": shape, "data_offsets": (offset, offset + size)}
            header[name] = facts
            offset += size
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % ALIGNMENT)
        with self.path.open("wb") as target:
            target.write(len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded)
            for name in order:
                self._copy(self._tensors[name], target)
        self.discard()

    def discard(self) -> None:
        """Give up what has been gathered."""
        self._data.close()
        self._spool.unlink(missing_ok=True)

    def _copy(self, facts: tuple[torch.dtype, tuple[int, ...], int, int], target: BinaryIO) -> None:
        _, _, start, left = facts
        self._data.seek(start)
        while left:
            piece = self._data.read(min(left, COPIED_AT_ONCE))
            target.write(piece)
            left -= len(piece)
