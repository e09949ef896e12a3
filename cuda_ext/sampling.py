"""The structure through which sampling's memory reaches the CUDA kernels (csrc/quire_cuda.h), and its constants."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_void_p

CHUNK = 2048
"""QUIRE_CUDA_SAMPLING_CHUNK: tokens that one block of threads works on."""

MOST_CHUNKS = 256
"""In a row of logits."""

BINS = 705
"""QUIRE_CUDA_SAMPLING_BINS: bins of weight that tokens are sorted into."""

MOST_TOP = 20
"""QUIRE_CUDA_SAMPLING_TOP: alternatives that can be reported of a row."""

STATE_BYTES = 32
"""What blocks of a row gather."""


class SamplerMemory(ctypes.Structure):
    """`quire_cuda_sampler`: device memory for sampling, which must outlive it."""

    _fields_ = (
        ("scratch", c_void_p),
        ("starts", c_void_p),
        ("leaders", c_void_p),
        ("bin_masses", c_void_p),
        ("bin_counts", c_void_p),
        ("states", c_void_p),
        ("counts", c_void_p),
        ("vocab_size", c_int32),
    )
