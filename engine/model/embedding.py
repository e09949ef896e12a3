"""Token embedding."""

from __future__ import annotations

import torch

from engine.ops.backend import Backend


class Embedding:
    """A table of one vector per token.

    Args:
        backend: looks tokens up.
        table: [V, H] of any float type, on the backend's device.
    """

    def __init__(self, backend: Backend, table: torch.Tensor) -> None:
        self._backend = backend
        self.table = table

    def forward(self, token_ids: torch.Tensor, out: torch.Tensor) -> None:
        """token_ids [T] int32, out [T, H]."""
        self._backend.embed(token_ids, self.table, out)
