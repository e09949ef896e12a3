"""Attention of the CUDA backend, over a paged cache. See docs/kernels.md."""

from __future__ import annotations

import ctypes

import torch

from cuda_ext.attention import AttentionStep
from engine.ops.backend import AttentionBatch
from engine.ops.cuda_runtime import Runtime
from engine.ops.tensor_checks import FLOAT_TYPES, require, require_float_tensor, require_tensor

LARGEST_HEAD_DIM = 256
ALIGNMENT = 16


class CudaAttention:
    """Attends on one device, with one workspace.

    Args:
        runtime: the device.
        activation_dtype: of queries and results: float16 or bfloat16.
        workspace_bytes: device memory kept for long contexts with few queries; results do not depend on it.
    """

    def __init__(self, runtime: Runtime, activation_dtype: torch.dtype, workspace_bytes: int) -> None:
        self._runtime = runtime
        self._dtype = activation_dtype
        self._processors = runtime.info.processors
        self._tensor_cores = runtime.info.capability_major >= 8
        self._workspace = torch.empty(workspace_bytes, dtype=torch.uint8, device=runtime.device)

    def attend(
        self,
        q: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
        scale: float,
        window: int | None,
        out: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> None:
        """`Backend.paged_attention`.

        Raises:
            KernelArgumentError: an argument is not what `Backend` says.
            DeviceError: the device reports an error.
        """
        rows, q_heads, head_dim = q.shape
        kv_heads = k_cache.shape[1]
        sequences, table_width = batch.block_tables.shape
        require_shape(q_heads, kv_heads, head_dim, window)
        self._require("q", q, self._dtype, (rows, q_heads, head_dim))
        self._require("out", out, self._dtype, (rows, q_heads, head_dim))
        if places is not None:
            self._require("places", places, torch.int32, (q_heads * head_dim,))
            require(places.data_ptr() % 8 == 0, "places must begin at a multiple of 8 bytes.")
        self._require("query_start", batch.query_start, torch.int32, (sequences + 1,))
        self._require("context_lens", batch.context_lens, torch.int32, (sequences,))
        self._require("block_tables", batch.block_tables, torch.int32, (sequences, table_width))
        cache_dtype, block_size = require_caches(k_cache, v_cache, kv_heads, head_dim, self._runtime.device)
        for name, tensor in (("q", q), ("k_cache", k_cache), ("v_cache", v_cache), ("out", out)):
            require(tensor.data_ptr() % ALIGNMENT == 0, f"{name} must begin at a multiple of {ALIGNMENT} bytes.")
        step = AttentionStep(
            q=q.data_ptr(),
            k_cache=k_cache.data_ptr(),
            v_cache=v_cache.data_ptr(),
            query_start=batch.query_start.data_ptr(),
            context_lens=batch.context_lens.data_ptr(),
            block_tables=batch.block_tables.data_ptr(),
            places=0 if places is None else places.data_ptr(),
            out=out.data_ptr(),
            workspace=self._workspace.data_ptr(),
            workspace_bytes=self._workspace.nbytes,
            rows=rows,
            sequences=sequences,
            table_width=table_width,
            max_query_len=batch.max_query_len,
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            block_size=block_size,
            window=window or 0,
            dtype=FLOAT_TYPES[self._dtype],
            cache_dtype=cache_dtype,
            processors=self._processors,
            tensor_cores=int(self._tensor_cores),
            scale=scale,
        )
        functions = self._runtime.library.functions
        self._runtime.library.check(functions.quire_cuda_paged_attention(self._runtime.stream(), ctypes.byref(step)))

    def _require(self, name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        require_tensor(name, tensor, dtype, shape, self._runtime.device)


def require_caches(
    k_cache: torch.Tensor, v_cache: torch.Tensor, kv_heads: int, head_dim: int, device: torch.device
) -> tuple[int, int]:
    """Element type (its native number) and block size of a pair of caches.

    Raises:
        KernelArgumentError: they are no such pair.
    """
    blocks, _, block_size, _ = k_cache.shape
    shape = (blocks, kv_heads, block_size, head_dim)
    dtype = require_float_tensor("k_cache", k_cache, shape, device)
    require_tensor("v_cache", v_cache, k_cache.dtype, shape, device)
    return dtype, block_size


def require_shape(q_heads: int, kv_heads: int, head_dim: int, window: int | None) -> None:
    """Check that there are kernels for this attention.

    Raises:
        KernelArgumentError: there are none, or it makes no sense.
    """
    require(q_heads % kv_heads == 0, f"{q_heads} query heads cannot share {kv_heads} key heads evenly.")
    require(window is None or window >= 1, f"An attention window must hold at least 1 position, not {window}.")
    require(
        head_dim % 8 == 0 and head_dim <= LARGEST_HEAD_DIM,
        f"The CUDA kernels attend with head dimensions that are multiples of 8 up to {LARGEST_HEAD_DIM}, not "
        f"{head_dim}; set kernels to 'torch'.",
    )
