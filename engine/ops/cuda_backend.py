"""The CUDA backend: ops run in `cuda_ext`, dense matrix products in torch. See docs/kernels.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.errors import KernelArgumentError
from engine.ops.backend import AttentionBatch, GroupKernel, LinearKernel
from engine.ops.cuda_attention import CudaAttention, require_caches
from engine.ops.cuda_exl2_matrix import Exl2Workspace
from engine.ops.cuda_linear import CudaExl2Linear, group_exl2
from engine.ops.cuda_memory import ATTENTION_WORKSPACE, CudaMemory
from engine.ops.cuda_runtime import Runtime
from engine.ops.exl2 import Exl2Tensors
from engine.ops.tensor_checks import FLOAT_TYPES, require, require_float_tensor, require_tensor
from engine.ops.torch_backend import TorchBackend

ACTIVATION_TYPES = (torch.float16, torch.bfloat16)


class CudaBackend:
    """All ops of `Backend` on a CUDA device, with float16 or bfloat16 activations.

    Args:
        runtime: the device.
        activation_dtype: one of ACTIVATION_TYPES.
        workspace_bytes: device memory kept for attention over long contexts with few queries; results do not depend
            on it.

    Every op raises KernelArgumentError when a tensor's dtype, shape or layout is not what `Backend` says, and
    DeviceError when the device reports an error. The values in index tensors (token ids, positions, slots, block
    tables) are trusted.
    """

    def __init__(
        self,
        runtime: Runtime,
        activation_dtype: torch.dtype = torch.float16,
        workspace_bytes: int = ATTENTION_WORKSPACE,
    ) -> None:
        if activation_dtype not in ACTIVATION_TYPES:
            raise KernelArgumentError(f"CUDA activations are float16 or bfloat16, not {activation_dtype}.")
        self._runtime = runtime
        self._functions = runtime.library.functions
        self._check = runtime.library.check
        self._dtype = activation_dtype
        self._number = FLOAT_TYPES[activation_dtype]
        self._attention = CudaAttention(runtime, activation_dtype, workspace_bytes)
        self._torch = TorchBackend(runtime.device, activation_dtype)
        self._exl2 = Exl2Workspace(runtime, activation_dtype)
        self._memory = CudaMemory(runtime.device, activation_dtype, runtime.info.processors)

    @property
    def runtime(self) -> Runtime:
        """The device it computes on."""
        return self._runtime

    @property
    def name(self) -> str:
        info = self._runtime.info
        return f"cuda-sm{info.capability_major}{info.capability_minor}"

    @property
    def device(self) -> torch.device:
        return self._runtime.device

    @property
    def activation_dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def threads(self) -> int:
        return 0

    @property
    def memory(self) -> CudaMemory:
        return self._memory

    def prepare_dense(self, weight: torch.Tensor, bias: torch.Tensor | None) -> LinearKernel:
        return self._torch.prepare_dense(weight, bias)

    def prepare_exl2(self, tensors: Exl2Tensors) -> LinearKernel:
        return CudaExl2Linear(self._exl2, tensors)

    def prepare_group(self, kernels: Sequence[LinearKernel]) -> GroupKernel | None:
        return group_exl2(self._exl2, kernels)

    def embed(self, token_ids: torch.Tensor, table: torch.Tensor, out: torch.Tensor) -> None:
        rows, width = out.shape
        self._require("token_ids", token_ids, torch.int32, (rows,))
        dtype = require_float_tensor("table", table, (table.shape[0], width), self.device)
        self._require("out", out, self._dtype, (rows, width))
        status = self._functions.quire_cuda_embed(
            self._runtime.stream(),
            token_ids.data_ptr(),
            table.data_ptr(),
            dtype,
            rows,
            width,
            out.data_ptr(),
            self._number,
        )
        self._check(status)

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        rows, width = x.shape
        self._require("x", x, self._dtype, (rows, width))
        dtype = require_float_tensor("weight", weight, (width,), self.device)
        self._require("out", out, self._dtype, (rows, width))
        status = self._functions.quire_cuda_rms_norm(
            self._runtime.stream(),
            x.data_ptr(),
            weight.data_ptr(),
            dtype,
            eps,
            rows,
            width,
            self._order(order, width),
            out.data_ptr(),
            self._number,
        )
        self._check(status)

    def rotate(
        self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> None:
        self._require_rotation(q, k, positions, cos, sin)
        rows, q_heads, head_dim = q.shape
        kv_heads = k.shape[1]
        status = self._functions.quire_cuda_rotate(
            self._runtime.stream(),
            q.data_ptr(),
            k.data_ptr(),
            positions.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            rows,
            q_heads,
            kv_heads,
            head_dim,
            self._number,
        )
        self._check(status)

    def silu_mul(
        self, gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        shape = tuple(gate.shape)
        self._require("gate", gate, self._dtype, shape)
        self._require("up", up, self._dtype, shape)
        self._require("out", out, self._dtype, shape)
        stream, inputs = self._runtime.stream(), (gate.data_ptr(), up.data_ptr())
        if order is None:
            status = self._functions.quire_cuda_silu_mul(stream, *inputs, gate.numel(), out.data_ptr(), self._number)
        else:
            require(out.data_ptr() not in inputs, "out cannot be gate or up where the order changes.")
            status = self._functions.quire_cuda_silu_mul_ordered(
                stream, *inputs, self._order(order, shape[1]), *shape, out.data_ptr(), self._number
            )
        self._check(status)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> None:
        shape = tuple(x.shape)
        self._require("x", x, self._dtype, shape)
        self._require("residual", residual, self._dtype, shape)
        status = self._functions.quire_cuda_add(
            self._runtime.stream(), x.data_ptr(), x.numel(), residual.data_ptr(), self._number
        )
        self._check(status)

    def store_kv(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
    ) -> None:
        self._require_tokens(k, v, batch)
        rows, kv_heads, head_dim = k.shape
        dtype, block_size = require_caches(k_cache, v_cache, kv_heads, head_dim, self.device)
        status = self._functions.quire_cuda_store_kv(
            self._runtime.stream(),
            k.data_ptr(),
            v.data_ptr(),
            batch.slots.data_ptr(),
            rows,
            kv_heads,
            block_size,
            head_dim,
            k_cache.data_ptr(),
            v_cache.data_ptr(),
            dtype,
            self._number,
        )
        self._check(status)

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
        q_heads, rows = q.shape[1], batch.slots.shape[0]
        self._require_rotation(q, k, positions, cos, sin)
        self._require_tokens(k, v, batch)
        _, kv_heads, head_dim = k.shape
        dtype, block_size = require_caches(k_cache, v_cache, kv_heads, head_dim, self.device)
        status = self._functions.quire_cuda_rotate_and_store(
            self._runtime.stream(),
            *(each.data_ptr() for each in (q, k, v, positions, cos, sin, batch.slots)),
            *(rows, q_heads, kv_heads, block_size, head_dim),
            *(k_cache.data_ptr(), v_cache.data_ptr(), dtype, self._number),
        )
        self._check(status)

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
        self._attention.attend(q, k_cache, v_cache, batch, scale, window, out, places)

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
        count, width = out.shape
        self._require("x", x, self._dtype, (x.shape[0], width))
        self._require("rows", rows, torch.int32, (count,))
        self._require("out", out, self._dtype, (count, width))
        status = self._functions.quire_cuda_take_rows(
            self._runtime.stream(), x.data_ptr(), rows.data_ptr(), count, width, out.data_ptr(), self._number
        )
        self._check(status)

    def _order(self, order: torch.Tensor | None, width: int) -> int:
        """Address of an order of features; 0 for none."""
        if order is None:
            return 0
        self._require("order", order, torch.int32, (width,))
        return order.data_ptr()

    def _require(self, name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        require_tensor(name, tensor, dtype, shape, self.device)

    def _require_rotation(
        self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> None:
        rows, q_heads, head_dim = q.shape
        require(head_dim % 2 == 0, f"Rotary embedding needs an even head dimension, not {head_dim}.")
        self._require("q", q, self._dtype, (rows, q_heads, head_dim))
        self._require("k", k, self._dtype, (rows, k.shape[1], head_dim))
        self._require("positions", positions, torch.int32, (rows,))
        self._require("cos", cos, torch.float32, (cos.shape[0], head_dim // 2))
        self._require("sin", sin, torch.float32, (cos.shape[0], head_dim // 2))

    def _require_tokens(self, k: torch.Tensor, v: torch.Tensor, batch: AttentionBatch) -> None:
        rows, kv_heads, head_dim = k.shape
        self._require("k", k, self._dtype, (rows, kv_heads, head_dim))
        self._require("v", v, self._dtype, (rows, kv_heads, head_dim))
        self._require("slots", batch.slots, torch.int32, (rows,))
