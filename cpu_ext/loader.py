"""Finds and opens the compiled CPU kernels, and declares their C interface (csrc/quire_cpu.h) once."""

from __future__ import annotations

import ctypes
import enum
import os
import shutil
from ctypes import c_double, c_float, c_int32, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

from engine.shared_library import Interface, Signatures, open_library

ABI_VERSION = 1
"""QUIRE_CPU_ABI_VERSION this file is written for."""

LIBRARY_PATH = Path(__file__).resolve().parent / "lib" / "libquire_cpu.so"
"""Where the build puts the library."""

COMPILERS = ("c++", "g++", "clang++")
"""Compilers looked for when the environment variable CXX names none."""


class Isa(enum.IntEnum):
    """Instruction sets; the values are those of the C interface."""

    AUTO = 0
    PORTABLE = 1
    AVX2 = 2
    AVX512 = 3


_POINTER = c_void_p
_SIGNATURES: Signatures = {
    "quire_isa_supported": (c_int32, (c_int32,)),
    "quire_context_create": (c_void_p, (c_int32, c_int32)),
    "quire_context_destroy": (None, (c_void_p,)),
    "quire_context_isa": (c_int32, (c_void_p,)),
    # context, q_weight, q_invperm, q_scale, q_scale_max, q_groups, K, stored N, groups, words, N, prescale, bias
    "quire_exl2_create": (c_void_p, (c_void_p, *[_POINTER] * 5, *[c_int64] * 5, c_double, _POINTER)),
    # context, weight, dtype, K, N, bias
    "quire_dense_create": (c_void_p, (c_void_p, _POINTER, c_int32, c_int64, c_int64, _POINTER)),
    "quire_linear_destroy": (None, (c_void_p,)),
    "quire_linear_nbytes": (c_int64, (c_void_p,)),
    # context, linear, x, rows, out
    "quire_linear_apply": (c_int32, (c_void_p, c_void_p, _POINTER, c_int64, _POINTER)),
    # context, ids, table, dtype, rows, width, out
    "quire_embed": (c_int32, (c_void_p, _POINTER, _POINTER, c_int32, c_int64, c_int64, _POINTER)),
    # context, x, weight, dtype, eps, rows, width, out
    "quire_rms_norm": (c_int32, (c_void_p, _POINTER, _POINTER, c_int32, c_float, c_int64, c_int64, _POINTER)),
    # context, q, k, positions, cos, sin, rows, q_heads, kv_heads, head_dim
    "quire_rotate": (c_int32, (c_void_p, *[_POINTER] * 5, *[c_int64] * 4)),
    # context, gate, up, count, out
    "quire_silu_mul": (c_int32, (c_void_p, _POINTER, _POINTER, c_int64, _POINTER)),
    # context, x, count, residual
    "quire_add": (c_int32, (c_void_p, _POINTER, c_int64, _POINTER)),
    # context, k, v, slots, rows, kv_heads, block_size, head_dim, dtype, k_cache, v_cache
    "quire_store_kv": (c_int32, (c_void_p, *[_POINTER] * 3, *[c_int64] * 4, c_int32, _POINTER, _POINTER)),
    # context, q, k_cache, v_cache, dtype, query_start, context_lens, block_tables, sequences, table_width, q_heads,
    # kv_heads, head_dim, block_size, scale, window, out
    "quire_paged_attention": (
        c_int32,
        (c_void_p, *[_POINTER] * 3, c_int32, *[_POINTER] * 3, *[c_int64] * 6, c_float, c_int64, _POINTER),
    ),
    # context, x, rows, count, width, out
    "quire_take_rows": (c_int32, (c_void_p, _POINTER, _POINTER, c_int64, c_int64, _POINTER)),
    # context, data, words
    "quire_read_memory": (c_uint64, (c_void_p, _POINTER, c_int64)),
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

    def supports(self, isa: Isa) -> bool:
        """Whether the library has kernels for `isa` and this CPU can run them."""
        return bool(self.functions.quire_isa_supported(isa))


def find_compiler() -> str | None:
    """Path of the C++ compiler a build would use: the environment variable CXX, else the first of COMPILERS."""
    named = os.environ.get("CXX")
    if named:
        return shutil.which(named.split()[0])
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def load_library(path: Path = LIBRARY_PATH) -> Library:
    """Open the compiled CPU kernels.

    Raises:
        NativeLibraryError: as `open_library`.
    """
    interface = Interface("native CPU library", "quire_abi_version", ABI_VERSION, _SIGNATURES)
    return Library(path, open_library(path, interface, _how_to_build()))


def _how_to_build() -> str:
    compiler = find_compiler()
    if compiler is not None:
        return f"Run `make install` (or `pip install -e .`) to build it; {compiler} will compile it."
    names = ", ".join(COMPILERS)
    return f"No C++ compiler was found ({names}): install one (e.g. g++), then run `make install`."
