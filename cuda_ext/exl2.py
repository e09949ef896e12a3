"""The structures through which EXL2 matrices reach the CUDA kernels (csrc/quire_cuda.h)."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_void_p

MOST_MATRICES = 4
"""QUIRE_CUDA_EXL2_MATRICES: as many are multiplied in one launch."""


class Exl2Matrix(ctypes.Structure):
    """`quire_cuda_exl2`: a matrix, ready for its device. Pointers are to device memory that must outlive it."""

    _fields_ = (
        ("planes", c_void_p),
        ("scales", c_void_p),
        ("tiles", c_void_p),
        ("features", c_void_p),
        ("bias", c_void_p),
        ("in_features", c_int32),
        ("out_features", c_int32),
        ("plane_count", c_int32),
        ("groups", c_int32),
    )


class Exl2Work(ctypes.Structure):
    """`quire_cuda_exl2_work`: matrices of the same inputs, and who multiplies what."""

    _fields_ = (
        ("matrices", Exl2Matrix * MOST_MATRICES),
        ("segments", c_void_p),
        ("count", c_int32),
        ("widest", c_int32),
        ("blocks", c_int32),
        ("shared_bytes", c_int32),
    )


class Exl2Step(ctypes.Structure):
    """`quire_cuda_exl2_step`: one product."""

    _fields_ = (
        ("x", c_void_p),
        ("row_factors", c_void_p),
        ("partials", c_void_p),
        ("arrivals", c_void_p),
        ("out", c_void_p * MOST_MATRICES),
        ("rows", c_int32),
        ("dtype", c_int32),
    )


class Exl2Many(ctypes.Structure):
    """`quire_cuda_exl2_many`: one product of many rows."""

    _fields_ = (
        ("x", c_void_p),
        ("partials", c_void_p),
        ("arrivals", c_void_p),
        ("out", c_void_p),
        ("rows", c_int32),
        ("widest", c_int32),
        ("splits", c_int32),
    )
