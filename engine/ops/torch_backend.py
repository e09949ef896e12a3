"""The reference backend: every op in plain torch. Right on any device torch knows, and slow."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.ops.backend import AttentionBatch, GroupKernel, LinearKernel
from engine.ops.cublas import settle_products
from engine.ops.exl2 import Exl2Tensors, decode
from engine.ops.reference import attention, elementwise, gather, kv_cache, norm, rotary
from engine.ops.reference.linear import DenseLinear
from engine.ops.torch_memory import TorchMemory


class TorchBackend:
    """All ops of `Backend`, composed from `engine/ops/reference/`.

    Args:
        device: where to compute, e.g. `cpu` or `cuda`.
        activation_dtype: dtype of activations, and of the matrices, which are converted when they are taken over.
        threads: CPU threads torch may use, a setting of the whole process; 0 leaves torch's own choice.

    On CUDA devices it settles how torch multiplies there (`engine/ops/cublas.py`), for the whole process too.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        activation_dtype: torch.dtype = torch.float32,
        threads: int = 0,
    ) -> None:
        self._device = torch.device(device)
        self._activation_dtype = activation_dtype
        if self._device.type == "cpu" and threads > 0:
            torch.set_num_threads(threads)
        if self._device.type == "cuda":
            settle_products()

    @property
    def name(self) -> str:
        return "torch"

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def activation_dtype(self) -> torch.dtype:
        return self._activation_dtype

    @property
    def threads(self) -> int:
        return torch.get_num_threads() if self._device.type == "cpu" else 0

    @property
    def memory(self) -> TorchMemory:
        return TorchMemory(self._device, self._activation_dtype)

    def prepare_dense(self, weight: torch.Tensor, bias: torch.Tensor | None) -> LinearKernel:
        return DenseLinear(self._take_over(weight), None if bias is None else self._take_over(bias))

    def prepare_exl2(self, tensors: Exl2Tensors) -> LinearKernel:
        """Decode once; the matrix then takes the memory of a dense one."""
        weight = decode(tensors)[:, : tensors.out_features].t()
        bias = None if tensors.bias is None else self._take_over(tensors.bias[: tensors.out_features])
        return DenseLinear(self._take_over(weight), bias)

    def prepare_group(self, kernels: Sequence[LinearKernel]) -> GroupKernel | None:  # noqa: ARG002
        return None

    def embed(self, token_ids: torch.Tensor, table: torch.Tensor, out: torch.Tensor) -> None:
        gather.embed(token_ids, table, out)

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        norm.rms_norm(x, weight, eps, out, order)

    def rotate(
        self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> None:
        rotary.rotate(q, k, positions, cos, sin)

    def silu_mul(
        self, gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        elementwise.silu_mul(gate, up, out, order)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> None:
        elementwise.add(x, residual)

    def store_kv(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
    ) -> None:
        kv_cache.store_kv(k, v, k_cache, v_cache, batch)

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
        attention.paged_attention(q, k_cache, v_cache, batch, scale, window, out, places)

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
        gather.take_rows(x, rows, out)

    def _take_over(self, tensor: torch.Tensor) -> torch.Tensor:
        # always a copy: the source may be a memory-mapped file that is about to be closed
        taken = torch.empty(tensor.shape, dtype=self._activation_dtype, device=self._device)
        return taken.copy_(tensor)
