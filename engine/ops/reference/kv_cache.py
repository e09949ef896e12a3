"""Writing keys and values into the paged cache."""

from __future__ import annotations

import torch

from engine.ops.backend import AttentionBatch


def store_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, batch: AttentionBatch
) -> None:
    """Write k and v [T, Hkv, D] to `batch.slots`, but for rows whose slot is negative.

    The caches are [blocks, Hkv, block_size, D] of any float type.
    """
    block_size = k_cache.shape[2]
    wanted = batch.slots >= 0
    slots = batch.slots[wanted]
    blocks = torch.div(slots, block_size, rounding_mode="floor").long()
    offsets = torch.remainder(slots, block_size).long()
    k_cache[blocks, :, offsets] = k[wanted].to(k_cache.dtype)
    v_cache[blocks, :, offsets] = v[wanted].to(v_cache.dtype)
