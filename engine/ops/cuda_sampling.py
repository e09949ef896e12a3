"""The sampling kernels (`cuda_ext/csrc/sampling/`) with the device memory they work in. See docs/kernels.md."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np
import torch

from cuda_ext.sampling import BINS, CHUNK, MOST_CHUNKS, MOST_TOP, STATE_BYTES, SamplerMemory
from engine.errors import KernelArgumentError
from engine.ops.cuda_runtime import Runtime
from engine.ops.tensor_checks import require, require_tensor

LARGEST_VOCABULARY = CHUNK * MOST_CHUNKS
MOST_ROWS = 65535
"""Blocks of a grid in its second direction."""

ROW_BYTES, RECORD_BYTES = 80, 256
"""Of quire_cuda_sampling_row and quire_cuda_sampled."""


def held_bytes(vocab_size: int, rows: int) -> int:
    """Device memory for sampling up to so many rows at a time."""
    return sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in _shapes(vocab_size, rows).values())


class SamplingKernels:
    """Chooses tokens on a device.

    Args:
        runtime: the device.
        vocab_size: logits of a row.
        max_rows: most rows at a time.

    Raises:
        KernelArgumentError: the vocabulary or the number of rows is more than the kernels can count.
    """

    def __init__(self, runtime: Runtime, vocab_size: int, max_rows: int) -> None:
        if not 0 < vocab_size <= LARGEST_VOCABULARY:
            raise KernelArgumentError(
                f"The CUDA kernels sample from 1 to {LARGEST_VOCABULARY} tokens, not {vocab_size}."
            )
        require(0 < max_rows <= MOST_ROWS, f"The CUDA kernels sample 1 to {MOST_ROWS} rows at a time, not {max_rows}.")
        self._runtime = runtime
        self._vocab_size = vocab_size
        self._max_rows = max_rows
        self._memory = {
            name: torch.zeros(shape, dtype=dtype, device=runtime.device)
            for name, (dtype, shape) in _shapes(vocab_size, max_rows).items()
        }
        addresses = {name: tensor.data_ptr() for name, tensor in self._memory.items()}
        self._native = SamplerMemory(**addresses, vocab_size=vocab_size)

    @property
    def nbytes(self) -> int:
        """Device memory it holds."""
        return sum(tensor.nbytes for tensor in self._memory.values())

    def load_counts(self, slot: int, counts: torch.Tensor) -> None:
        """Set what has been seen of each token in a slot: 2^15 if in the prompt, plus occurrences in the answer.

        Runs on the current stream.

        Args:
            slot: index.
            counts: int16 [V] on the host. The copy waits its turn in the stream, and nobody waits for it, where this is
                pinned; it must not change before that is done.
        """
        self._memory["counts"][slot].copy_(counts, non_blocking=True)

    def sample(self, logits: torch.Tensor, inputs: torch.Tensor, tokens: torch.Tensor, records: torch.Tensor) -> None:
        """`quire_cuda_sample` on the current stream; allocates nothing and waits for nothing.

        Args:
            logits: float32 [L, V].
            inputs: uint8 [at least ROW_BYTES * L], with lists after the rows.
            tokens: int32 [L], written.
            records: uint8 [L, RECORD_BYTES], written.

        Raises:
            KernelArgumentError: a tensor is not of that kind, or there are more rows than memory was taken for.
            DeviceError: the device reports an error.
        """
        rows = logits.shape[0]
        device = self._runtime.device
        require(rows <= self._max_rows, f"There is memory for sampling {self._max_rows} rows at a time, not {rows}.")
        require_tensor("logits", logits, torch.float32, (rows, self._vocab_size), device)
        require_tensor("inputs", inputs, torch.uint8, (max(inputs.numel(), ROW_BYTES * rows),), device)
        require_tensor("tokens", tokens, torch.int32, (rows,), device)
        require_tensor("records", records, torch.uint8, (rows, RECORD_BYTES), device)
        for name, tensor in (("inputs", inputs), ("records", records)):
            require(tensor.data_ptr() % 8 == 0, f"{name} must be aligned to 8 bytes.")
        library = self._runtime.library
        status = library.functions.quire_cuda_sample(
            self._runtime.stream(),
            ctypes.addressof(self._native),
            logits.data_ptr(),
            inputs.data_ptr(),
            rows,
            tokens.data_ptr(),
            records.data_ptr(),
        )
        library.check(status)


def _shapes(vocab_size: int, rows: int) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
    """What `quire_cuda_sampler` points to; torch has no unsigned types that every operation takes."""
    chunks = -(-vocab_size // CHUNK)
    return {
        "scratch": (torch.int32, (rows, chunks, CHUNK)),
        "starts": (torch.int16, (rows, chunks, BINS + 1)),
        "leaders": (torch.int64, (rows, chunks, MOST_TOP)),
        "bin_masses": (torch.int64, (rows, BINS)),
        "bin_counts": (torch.int32, (rows, BINS)),
        "states": (torch.uint8, (rows, STATE_BYTES)),
        "counts": (torch.int16, (rows, vocab_size)),
    }
