"""The seam between the model and whatever computes it.

A backend is chosen once, when a model is loaded, by device and by which compiled library is there. Model code calls
these methods and nothing else, so it contains no word about devices.

The contract of every op:

* it writes into the output it is given, allocates nothing that outlives the call, and returns nothing;
* all tensors are contiguous and on `device`, activations in `activation_dtype`;
* what changes from step to step (positions, slots, lengths) comes in tensors, never as Python numbers; what is launched
  follows from shapes alone, so that a step can be recorded and replayed;
* a row of the output depends on that row's inputs alone, bit for bit, whatever other rows are in the batch
  (*batch invariance*). The torch reference promises this only up to rounding, native kernels promise it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.ops.backend_memory import BackendMemory
from engine.ops.exl2 import Exl2Tensors


class LinearKernel(Protocol):
    """One weight matrix, prepared for its backend. Calling it computes `out = x @ W (+ bias)`.

    `x` is [T, in_features], `out` [T, out_features] (the true number of outputs, without storage padding), both in
    the backend's activation dtype.
    """

    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Memory the prepared weights hold."""
        ...

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None: ...


class GroupKernel(Protocol):
    """Matrices with the same input, computed together: `outs[i] = x @ W_i (+ bias_i)`, shapes as of `LinearKernel`."""

    @property
    def kernels(self) -> Sequence[LinearKernel]:
        """The kernels of the matrices, which it stands for."""
        ...

    @property
    def input_order(self) -> torch.Tensor | None:
        """The order in which it takes x: [in_features] int32, the feature at each place; None for 0, 1, 2 …"""
        ...

    @property
    def input_places(self) -> torch.Tensor | None:
        """The inverse of `input_order`: the place of each feature; None where that is None."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory it holds besides what its kernels do."""
        ...

    def __call__(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None: ...


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """Where each token of a step stands in the paged KV cache. Tensors are int32, on the backend's device.

    S sequences take part, T tokens in total; sequence s owns rows `query_start[s]:query_start[s+1]`, which are its
    positions `context_lens[s] - rows … context_lens[s] - 1`. Every sequence has a row.

    A step in which each has just one may be *padded* to the shapes of a recorded one, T = S: rows from `query_start[S]`
    on belong to no sequence, their slots are -1, nothing is stored for them and what is attended is undefined.

    Attributes:
        query_start: [S + 1] first row of each sequence, and T.
        context_lens: [S] tokens of each sequence in the cache once this step's are stored; 0 for one without rows.
        block_tables: [S, B] cache block of each run of `block_size` positions; unused entries are 0.
        slots: [T] `block * block_size + offset` where each token's key and value are stored.
    """

    query_start: torch.Tensor
    context_lens: torch.Tensor
    block_tables: torch.Tensor
    slots: torch.Tensor

    @property
    def max_query_len(self) -> int:
        """No sequence has more rows. It follows from shapes, so that it holds whenever a recorded step is replayed."""
        return max(1, self.slots.shape[0] - self.context_lens.shape[0] + 1)


class Backend(Protocol):
    """A set of kernels for one device."""

    @property
    def name(self) -> str:
        """For people: which kernels these are, e.g. `cpu-avx512`."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def activation_dtype(self) -> torch.dtype: ...

    @property
    def threads(self) -> int:
        """Threads the kernels use; 0 where that means nothing."""
        ...

    @property
    def memory(self) -> BackendMemory:
        """What its device has, and what a model will take of it."""
        ...

    def prepare_dense(self, weight: torch.Tensor, bias: torch.Tensor | None) -> LinearKernel:
        """Take over a plain matrix `weight` [out, in] (float16, bfloat16 or float32) and its bias [out]."""
        ...

    def prepare_exl2(self, tensors: Exl2Tensors) -> LinearKernel:
        """Take over an EXL2 matrix; the source may be freed afterwards."""
        ...

    def prepare_group(self, kernels: Sequence[LinearKernel]) -> GroupKernel | None:
        """A kernel for matrices with the same input, or a single one; None where it would gain nothing.

        Args:
            kernels: of the matrices, made by this backend.
        """
        ...

    def embed(self, token_ids: torch.Tensor, table: torch.Tensor, out: torch.Tensor) -> None:
        """`out[t] = table[token_ids[t]]`; ids [T] int32, table [V, H] of any float type, out [T, H]."""
        ...

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        """`out = x / sqrt(mean(x²) + eps) * weight` over the last dimension, computed in float32; x [R, H].

        With an order ([H] int32, a permutation) place i of the output has feature order[i]; out is then not x.
        """
        ...

    def rotate(
        self, q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> None:
        """Rotary embedding in place, halves convention (feature i pairs with i + D/2).

        q [T, Hq, D], k [T, Hkv, D], positions [T] int32, cos and sin [max_positions, D / 2] float32.
        """
        ...

    def silu_mul(
        self, gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        """`out = silu(gate) * up`; all [T, I]; out may be gate.

        With an order ([I] int32, a permutation) place i of the output has feature order[i]; out is then not gate.
        """
        ...

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> None:
        """`residual += x`; both [T, H]."""
        ...

    def store_kv(
        self,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
    ) -> None:
        """Write this step's keys and values [T, Hkv, D] to their slots.

        The caches are [blocks, Hkv, block_size, D] in float16, bfloat16 or float32.
        """
        ...

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
        """`rotate`, then `store_kv`, perhaps in one pass: what k holds afterwards is undefined."""
        ...

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
        """Causal attention of q [T, Hq, D] over the cache, grouped queries, accumulated in float32; out as q.

        A token at position p attends to positions max(0, p - window + 1) … p (all of 0 … p without a window). With
        places ([Hq * D] int32, a permutation) feature f of all heads of a row, Hq * D of them, is at places[f] of it.
        """
        ...

    def take_rows(self, x: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
        """`out[i] = x[rows[i]]`; x [T, H], rows [L] int32, out [L, H]."""
        ...
