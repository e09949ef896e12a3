"""The tensors behind the cache."""

from __future__ import annotations

import pytest
import torch

from engine.cache.block import BlockCopy
from engine.cache.kv_format import KVFormat, kv_dtype
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import KVCacheDtype


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("auto", torch.float16),
        ("float16", torch.float16),
        ("bfloat16", torch.bfloat16),
        ("float32", torch.float32),
    ],
)
def test_layout_and_size(name: KVCacheDtype, dtype: torch.dtype) -> None:
    kv_format = KVFormat(num_layers=3, num_kv_heads=2, head_dim=8, dtype=kv_dtype(name))

    cache = PagedKVCache(kv_format, num_blocks=5, block_size=16, device=torch.device("cpu"))

    tensors = [each for layer in range(3) for each in (cache.keys(layer), cache.values(layer))]
    assert {(each.shape, each.dtype) for each in tensors} == {(torch.Size([5, 2, 16, 8]), dtype)}
    assert len({each.data_ptr() for each in tensors}) == 6
    assert cache.num_tokens == 80
    assert cache.nbytes == sum(each.nbytes for each in tensors) == 80 * kv_format.bytes_per_token
    assert not any(each.any() for each in tensors)
    assert kv_format.dtype_name == str(dtype).split(".")[1]


def test_copies_take_whole_blocks_of_all_layers_and_read_before_they_write() -> None:
    kv_format = KVFormat(num_layers=2, num_kv_heads=2, head_dim=8, dtype=torch.float16)
    cache = PagedKVCache(kv_format, num_blocks=5, block_size=4, device=torch.device("cpu"))
    tensors = [each for layer in range(2) for each in (cache.keys(layer), cache.values(layer))]
    before = [tensor.copy_(torch.randn(tensor.shape)).clone() for tensor in tensors]

    cache.copy_blocks((BlockCopy(0, 3), BlockCopy(3, 1), BlockCopy(0, 4)))

    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor, old[[0, 3, 2, 0, 0]])
