"""The memory behind the blocks: keys and values of all layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.cache.block import BlockCopy
from engine.cache.kv_format import KVFormat


class PagedKVCache:
    """Two tensors per layer, [num_blocks, num_kv_heads, block_size, head_dim]; a head's positions lie side by side.

    The memory is asked for at once, and starts as zeros so that slots never written hold finite numbers.

    Args:
        kv_format: what a token takes.
        num_blocks: blocks the block manager hands out.
        block_size: tokens per block.
        device: where the tensors live.
    """

    def __init__(self, kv_format: KVFormat, num_blocks: int, block_size: int, device: torch.device) -> None:
        self.format = kv_format
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (num_blocks, kv_format.num_kv_heads, block_size, kv_format.head_dim)
        self._keys, self._values = (
            tuple(torch.zeros(shape, dtype=kv_format.dtype, device=device) for _ in range(kv_format.num_layers))
            for _ in range(2)
        )

    def keys(self, layer: int) -> torch.Tensor:
        """Keys of a layer."""
        return self._keys[layer]

    def values(self, layer: int) -> torch.Tensor:
        """Values of a layer."""
        return self._values[layer]

    def copy_blocks(self, copies: Sequence[BlockCopy]) -> None:
        """Copy whole blocks in all layers. Everything is read before anything is written; no target occurs twice."""
        sources, targets = torch.tensor(copies, device=self._keys[0].device).unbind(1)
        for tensor in (*self._keys, *self._values):
            tensor[targets] = tensor[sources]

    def copy_listed(self, sources: torch.Tensor, targets: torch.Tensor, room: torch.Tensor) -> None:
        """As `copy_blocks`, for blocks named on the device; neither allocates nor waits.

        Args:
            sources: int64 [C].
            targets: int64 [C].
            room: for at least C blocks of one tensor of one layer.
        """
        held = room[: len(sources)]
        for tensor in (*self._keys, *self._values):
            torch.index_select(tensor, 0, sources, out=held)
            tensor.index_copy_(0, targets, held)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self._keys[0].device

    @property
    def num_tokens(self) -> int:
        """Tokens the cache holds."""
        return self.num_blocks * self.block_size

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return self.num_tokens * self.format.bytes_per_token
