"""The structure through which a step's attention reaches the CUDA kernels (csrc/quire_cuda.h)."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_int64, c_void_p


class AttentionStep(ctypes.Structure):
    """`quire_cuda_attention`: attention of one layer in one step. Pointers are to device memory."""

    _fields_ = (
        ("q", c_void_p),
        ("k_cache", c_void_p),
        ("v_cache", c_void_p),
        ("query_start", c_void_p),
        ("context_lens", c_void_p),
        ("block_tables", c_void_p),
        ("places", c_void_p),
        ("out", c_void_p),
        ("workspace", c_void_p),
        ("workspace_bytes", c_int64),
        ("rows", c_int32),
        ("sequences", c_int32),
        ("table_width", c_int32),
        ("max_query_len", c_int32),
        ("q_heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("block_size", c_int32),
        ("window", c_int32),
        ("dtype", c_int32),
        ("cache_dtype", c_int32),
        ("processors", c_int32),
        ("tensor_cores", c_int32),
        ("scale", c_float),
    )
