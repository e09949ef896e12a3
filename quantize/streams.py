"""Activations of all rows in a file, so that their number is no matter of memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from engine.errors import QuantizationError
from engine.ops.backend import Backend

FLOAT = 4
"""Bytes of an element."""


class StreamFile:
    """float32 [rows, T, W], mapped from a file: its pages are the system's to keep in memory or to write out.

    Args:
        path: of the file; one that is there already is taken as it is, and must have the right size.
        rows, tokens, width: shape.
        backend: will compute with them.

    Raises:
        QuantizationError: there is no room for it, or it cannot be written.
    """

    def __init__(self, path: Path, rows: int, tokens: int, width: int, backend: Backend) -> None:
        self.path = path
        self._backend = backend
        size = rows * tokens * width
        _reserve(path, size * FLOAT)
        mapped = torch.from_file(str(path), shared=True, size=size, dtype=torch.float32)
        self._mapped = mapped.view(rows, tokens, width)

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._mapped.shape[0]

    @property
    def tokens(self) -> int:
        """Tokens in each."""
        return self._mapped.shape[1]

    @property
    def width(self) -> int:
        """Elements of each token."""
        return self._mapped.shape[2]

    def read(self, row: int) -> torch.Tensor:
        """A copy of one row [T, W] on the backend's device, in its activation dtype."""
        return self._mapped[row].to(self._backend.device, self._backend.activation_dtype, copy=True)

    def write(self, row: int, values: torch.Tensor) -> None:
        """Replace one row by values [T, W]."""
        self._mapped[row].copy_(values)

    def flush(self) -> None:
        """Have the disk take it in."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file; the object is of no use afterwards."""
        self._mapped = torch.empty(0, 0, 0)
        self.path.unlink()


def _reserve(path: Path, size: int) -> None:
    """Claim the room on the disk now: a mapped page that cannot be written later would kill the process."""
    try:
        with path.open("ab") as file:
            if file.tell() < size:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise QuantizationError(
            f"{path} cannot be given its {size / 2**20:.0f} MiB ({error.strerror}). Make room on that disk."
        ) from error
