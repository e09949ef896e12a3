"""Memory for activations, kept from step to step."""

from __future__ import annotations

import torch


class Workspace:
    """Named buffers that are allocated once and then handed out again and again.

    A buffer starts out with room for `rows` rows and grows, to exactly what is asked for, when that is not enough;
    after the largest step nothing is allocated any more. What a buffer holds is lost when it is next asked for by a
    larger size, and overwritten by whoever asks for it next.

    Args:
        device: where the buffers live.
        dtype: their element type, unless asked otherwise.
        rows: rows each buffer has room for from the beginning.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, rows: int) -> None:
        self._device = device
        self._dtype = dtype
        self._rows = rows
        self._buffers: dict[str, torch.Tensor] = {}

    def get(self, name: str, rows: int, columns: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The buffer `name` as a contiguous [rows, columns], its contents undefined."""
        size = rows * columns
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            capacity = max(rows, self._rows) * columns
            buffer = torch.empty(capacity, dtype=dtype or self._dtype, device=self._device)
            self._buffers[name] = buffer
        return buffer[:size].view(rows, columns)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(buffer.nbytes for buffer in self._buffers.values())
