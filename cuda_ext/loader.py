"""Finds and opens the compiled CUDA kernels, and declares their C interface (csrc/quire_cuda.h) once."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path

from engine.errors import DeviceError, KernelArgumentError
from engine.shared_library import Interface, Signatures, open_library

ABI_VERSION = 5
"""QUIRE_CUDA_ABI_VERSION this file is written for."""

LIBRARY_PATH = Path(__file__).resolve().parent / "lib" / "libquire_cuda.so"
"""Where the build puts the library."""

UNSUPPORTED = -1
HOW_TO_BUILD = "Run `make cuda` to build it; that needs nvcc from the CUDA toolkit, 12.8 or newer."


class DeviceInfo(ctypes.Structure):
    """`quire_cuda_device`: what kernels and their callers need to know of a device."""

    _fields_ = (
        ("capability_major", c_int32),
        ("capability_minor", c_int32),
        ("processors", c_int32),
        ("shared_bytes_per_block", c_int32),
        ("l2_bytes", c_int32),
    )

    capability_major: int
    capability_minor: int
    processors: int
    shared_bytes_per_block: int
    l2_bytes: int


_POINTER = c_void_p
_STREAM = c_void_p
_DTYPE = c_int32
_SIGNATURES: Signatures = {
    "quire_cuda_init": (c_int32, (c_int32,)),
    "quire_cuda_device_info": (c_int32, (c_int32, _POINTER)),
    "quire_cuda_driver_version": (c_int32, ()),
    "quire_cuda_runtime_version": (c_int32, ()),
    "quire_cuda_error_message": (c_char_p, (c_int32,)),
    # stream, ids, table, table dtype, rows, width, out, dtype
    "quire_cuda_embed": (c_int32, (_STREAM, _POINTER, _POINTER, _DTYPE, c_int64, c_int64, _POINTER, _DTYPE)),
    # stream, x, rows, count, width, out, dtype
    "quire_cuda_take_rows": (c_int32, (_STREAM, _POINTER, _POINTER, c_int64, c_int64, _POINTER, _DTYPE)),
    # stream, x, weight, weight dtype, eps, rows, width, order, out, dtype
    "quire_cuda_rms_norm": (
        c_int32,
        (_STREAM, _POINTER, _POINTER, _DTYPE, c_float, c_int64, c_int64, _POINTER, _POINTER, _DTYPE),
    ),
    # stream, q, k, positions, cos, sin, rows, q_heads, kv_heads, head_dim, dtype
    "quire_cuda_rotate": (c_int32, (_STREAM, *[_POINTER] * 5, *[c_int64] * 4, _DTYPE)),
    # stream, gate, up, count, out, dtype
    "quire_cuda_silu_mul": (c_int32, (_STREAM, _POINTER, _POINTER, c_int64, _POINTER, _DTYPE)),
    # stream, gate, up, order, rows, width, out, dtype
    "quire_cuda_silu_mul_ordered": (c_int32, (_STREAM, *[_POINTER] * 3, c_int64, c_int64, _POINTER, _DTYPE)),
    # stream, x, count, residual, dtype
    "quire_cuda_add": (c_int32, (_STREAM, _POINTER, c_int64, _POINTER, _DTYPE)),
    # stream, k, v, slots, rows, kv_heads, block_size, head_dim, k_cache, v_cache, cache dtype, dtype
    "quire_cuda_store_kv": (
        c_int32,
        (_STREAM, *[_POINTER] * 3, *[c_int64] * 4, _POINTER, _POINTER, _DTYPE, _DTYPE),
    ),
    # stream, q, k, v, positions, cos, sin, slots, rows, q_heads, kv_heads, block_size, head_dim, k_cache, v_cache,
    # cache dtype, dtype
    "quire_cuda_rotate_and_store": (
        c_int32,
        (_STREAM, *[_POINTER] * 7, *[c_int64] * 5, _POINTER, _POINTER, _DTYPE, _DTYPE),
    ),
    # stream, step
    "quire_cuda_paged_attention": (c_int32, (_STREAM, _POINTER)),
    # stream, q_weight, q_scale, units, tiles, features, K, stored N, out
    "quire_cuda_exl2_decode": (c_int32, (_STREAM, *[_POINTER] * 5, c_int64, c_int64, _POINTER)),
    # stream, matrix, first column block, column blocks, out, stride, dtype
    "quire_cuda_exl2_decode_tiles": (c_int32, (_STREAM, _POINTER, c_int64, c_int64, _POINTER, c_int64, _DTYPE)),
    # stream, matrix, x, rows, gathered, factors, dtype
    "quire_cuda_exl2_gather": (c_int32, (_STREAM, _POINTER, _POINTER, c_int64, _POINTER, _POINTER, _DTYPE)),
    # stream, matrix, step
    "quire_cuda_exl2_matmul_many": (c_int32, (_STREAM, _POINTER, _POINTER)),
    # stream, work, step
    "quire_cuda_exl2_matmul": (c_int32, (_STREAM, _POINTER, _POINTER)),
    # stream, sampler, logits, inputs, rows, tokens, records
    "quire_cuda_sample": (c_int32, (_STREAM, *[_POINTER] * 3, c_int64, _POINTER, _POINTER)),
}


@dataclass(frozen=True, slots=True)
class Library:
    """The opened library.

    Attributes:
        path: file it was opened from.
        functions: its exported functions by name, argument and result types declared.
    """

    path: Path
    functions: ctypes.CDLL

    @property
    def driver_version(self) -> str | None:
        """Newest CUDA version the driver can run, e.g. `13.0`; None without a driver."""
        return _version(self.functions.quire_cuda_driver_version())

    @property
    def built_for(self) -> str | None:
        """CUDA version it is built with. A driver of the same major version runs it."""
        return _version(self.functions.quire_cuda_runtime_version())

    def check(self, status: int) -> None:
        """Turn the result of an op into an exception.

        Raises:
            DeviceError: the device reported an error.
            KernelArgumentError: there is no kernel for these types or sizes.
        """
        if status == UNSUPPORTED:
            raise KernelArgumentError("There is no CUDA kernel for these types or sizes.")
        if status:
            message: bytes = self.functions.quire_cuda_error_message(status)
            raise DeviceError(f"CUDA error: {message.decode(errors='replace')} ({status}).")

    def device_info(self, device: int) -> DeviceInfo:
        """What a device is.

        Raises:
            DeviceError: there is no such device, or it does not answer.
        """
        info = DeviceInfo()
        self.check(self.functions.quire_cuda_device_info(device, ctypes.byref(info)))
        return info


def load_library(path: Path = LIBRARY_PATH) -> Library:
    """Open the compiled CUDA kernels. Needs no GPU and no driver: those are asked for by `quire_cuda_init`.

    Raises:
        NativeLibraryError: as `open_library`.
    """
    interface = Interface("CUDA library", "quire_cuda_abi_version", ABI_VERSION, _SIGNATURES)
    return Library(path, open_library(path, interface, HOW_TO_BUILD))


def _version(number: int) -> str | None:
    return f"{number // 1000}.{number % 1000 // 10}" if number else None
