"""What one element of the KV cache is, and what a token costs in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.config import KVCacheDtype

_DTYPES: dict[KVCacheDtype, torch.dtype] = {
    "auto": torch.float16,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def kv_dtype(name: KVCacheDtype) -> torch.dtype:
    """Element type of a setting; `auto` means float16."""
    return _DTYPES[name]


@dataclass(frozen=True, slots=True)
class KVFormat:
    """Shape of what the cache keeps of each token.

    Attributes:
        num_layers: decoder layers.
        num_kv_heads: heads of keys and values per layer.
        head_dim: features per head.
        dtype: element type.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token's keys and values take in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def dtype_name(self) -> str:
        """For people, e.g. `float16`."""
        return str(self.dtype).removeprefix("torch.")
