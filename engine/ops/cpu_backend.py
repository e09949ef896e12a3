"""The native CPU backend: every op runs in `cpu_ext`, exactly batch-invariant. See docs/kernels.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cpu_ext.context import Context, check
from cpu_ext.loader import Isa, load_library
from engine.ops import cpu_linear
from engine.ops.backend import AttentionBatch, GroupKernel, LinearKernel
from engine.ops.cpu_memory import CpuMemory
from engine.ops.exl2 import Exl2Tensors
from engine.ops.tensor_checks import require, require_float_tensor, require_tensor


class CpuBackend:
    """All ops of `Backend` in native code, with float32 activations.

    Args:
        threads: threads that compute, the calling one included; results do not depend on it.
        isa: instruction set; AUTO takes the widest this CPU has.

    Raises:
        NativeLibraryError: the library is missing, does not match, or cannot run this way here.
        CapacityError: the system does not give that many threads.

    Every op raises KernelArgumentError when a tensor's dtype, shape or layout is not what `Backend` says. The values
    in index tensors (token ids, positions, slots, block tables) are trusted.
    """

    def __init__(self, threads: int, isa: Isa = Isa.AUTO) -> None:
        self._context = Context(load_library(), threads, isa)
        self._functions = self._context.functions
        self._handle = self._context.handle

    @property
    def name(self) -> str:
        return f"cpu-{self._context.isa.name.lower()}"

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def activation_dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def threads(self) -> int:
        return self._context.threads

    @property
    def memory(self) -> CpuMemory:
        return CpuMemory(self.threads)

    def prepare_dense(self, weight: torch.Tensor, bias: torch.Tensor | None) -> LinearKernel:
        return cpu_linear.prepare_dense(self._context, weight, bias)

    def prepare_exl2(self, tensors: Exl2Tensors) -> LinearKernel:
        return cpu_linear.prepare_exl2(self._context, tensors)

    def prepare_group(self, kernels: Sequence[LinearKernel]) -> GroupKernel | None:  # noqa: ARG002
        return None

    def embed(self, token_ids: torch.Tensor, table: torch.Tensor, out: torch.Tensor) -> None:
        rows, width = out.shape
        require_tensor("token_ids", token_ids, torch.int32, (rows,))
        dtype = require_float_tensor("table", table, (table.shape[0], width))
        require_tensor("out", out, torch.float32, (rows, width))
        status = self._functions.quire_embed(
            self._handle, token_ids.data_ptr(), table.data_ptr(), dtype, rows, width, out.data_ptr()
        )
        check(status)

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        rows, width = x.shape
        require_tensor("x", x, torch.float32, (rows, width))
        dtype = require_float_tensor("weight", weight, (width,))
        require_tensor("out", out, torch.float32, (rows, width))
        status = self._functions.quire_rms_norm(
            self._handle, x.data_ptr(), weight.data_ptr(), dtype, eps, rows, width, out.data_ptr()
        )
        check(status)
        _reorder(out, order)

    def rotate(
        self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> None:
        rows, q_heads, head_dim = q.shape
        kv_heads = k.shape[1]
        require(head_dim % 2 == 0, f"Rotary embedding needs an even head dimension, not {head_dim}.")
        require_tensor("q", q, torch.float32, (rows, q_heads, head_dim))
        require_tensor("k", k, torch.float32, (rows, kv_heads, head_dim))
        require_tensor("positions", positions, torch.int32, (rows,))
        require_tensor("cos", cos, torch.float32, (cos.shape[0], head_dim // 2))
        require_tensor("sin", sin, torch.float32, (cos.shape[0], head_dim // 2))
        status = self._functions.quire_rotate(
            self._handle,
            q.data_ptr(),
            k.data_ptr(),
            positions.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            rows,
            q_heads,
            kv_heads,
            head_dim,
        )
        check(status)

    def silu_mul(
        self, gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        shape = tuple(gate.shape)
        require_tensor("gate", gate, torch.float32, shape)
        require_tensor("up", up, torch.float32, shape)
        require_tensor("out", out, torch.float32, shape)
        status = self._functions.quire_silu_mul(
            self._handle, gate.data_ptr(), up.data_ptr(), gate.numel(), out.data_ptr()
        )
        check(status)
        _reorder(out, order)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> None:
        shape = tuple(x.shape)
        require_tensor("x", x, torch.float32, shape)
        require_tensor("residual", residual, torch.float32, shape)
        check(self._functions.quire_add(self._handle, x.data_ptr(), x.numel(), residual.data_ptr()))

    def store_kv(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
    ) -> None:
        rows, kv_heads, head_dim = k.shape
        require_tensor("k", k, torch.float32, (rows, kv_heads, head_dim))
        require_tensor("v", v, torch.float32, (rows, kv_heads, head_dim))
        require_tensor("slots", batch.slots, torch.int32, (rows,))
        dtype, block_size = _require_caches(k_cache, v_cache, kv_heads, head_dim)
        status = self._functions.quire_store_kv(
            self._handle,
            k.data_ptr(),
            v.data_ptr(),
            batch.slots.data_ptr(),
            rows,
            kv_heads,
            block_size,
            head_dim,
            dtype,
            k_cache.data_ptr(),
            v_cache.data_ptr(),
        )
        check(status)

    def rotate_and_store(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        positions: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
    ) -> None:
        self.rotate(q, k, positions, cos, sin)
        self.store_kv(k, v, k_cache, v_cache, batch)

    def paged_attention(
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
        rows, q_heads, head_dim = q.shape
        kv_heads = k_cache.shape[1]
        sequences, table_width = batch.block_tables.shape
        require(q_heads % kv_heads == 0, f"{q_heads} query heads cannot share {kv_heads} key heads evenly.")
        require(window is None or window >= 1, f"An attention window must hold at least 1 position, not {window}.")
        require_tensor("q", q, torch.float32, (rows, q_heads, head_dim))
        require_tensor("out", out, torch.float32, (rows, q_heads, head_dim))
        require_tensor("query_start", batch.query_start, torch.int32, (sequences + 1,))
        require_tensor("context_lens", batch.context_lens, torch.int32, (sequences,))
        require_tensor("block_tables", batch.block_tables, torch.int32, (sequences, table_width))
        dtype, block_size = _require_caches(k_cache, v_cache, kv_heads, head_dim)
        status = self._functions.quire_paged_attention(
            self._handle,
            q.data_ptr(),
            k_cache.data_ptr(),
            v_cache.data_ptr(),
            dtype,
            batch.query_start.data_ptr(),
            batch.context_lens.data_ptr(),
            batch.block_tables.data_ptr(),
            sequences,
            table_width,
            q_heads,
            kv_heads,
            head_dim,
            block_size,
            scale,
            window or 0,
            out.data_ptr(),
        )
        check(status)
        if places is not None:
            require_tensor("places", places, torch.int32, (q_heads * head_dim,))
            _reorder(out.flatten(1), torch.argsort(places).to(torch.int32))

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
        count, width = out.shape
        require_tensor("x", x, torch.float32, (x.shape[0], width))
        require_tensor("rows", rows, torch.int32, (count,))
        require_tensor("out", out, torch.float32, (count, width))
        status = self._functions.quire_take_rows(
            self._handle, x.data_ptr(), rows.data_ptr(), count, width, out.data_ptr()
        )
        check(status)


def _require_caches(k_cache: torch.Tensor, v_cache: torch.Tensor, kv_heads: int, head_dim: int) -> tuple[int, int]:
    """Element type (its native number) and block size of a pair of caches."""
    blocks, _, block_size, _ = k_cache.shape
    shape = (blocks, kv_heads, block_size, head_dim)
    dtype = require_float_tensor("k_cache", k_cache, shape)
    require_tensor("v_cache", v_cache, k_cache.dtype, shape)
    return dtype, block_size


def _reorder(out: torch.Tensor, order: torch.Tensor | None) -> None:
    """Bring the features of each row into an order. No kernel here asks for one."""
    if order is not None:
        require_tensor("order", order, torch.int32, out.shape[1:])
        out.copy_(out[:, order.long()])
