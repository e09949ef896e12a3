"""How torch multiplies matrices on CUDA devices, by cuBLAS: how exactly, and what that keeps of a device's memory."""

from __future__ import annotations

import os
import re

import torch

WORKSPACE_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACE = ":4096:8"
"""Sizes in KiB, each with how many: what torch takes on Hopper by itself, and on older cards a quarter of. Said aloud,
it is the same on every card and with every version of torch."""

BESIDES_FOR_BIAS = 1 << 20
"""Of a second workspace, which some versions of torch take for products with a bias."""


def settle_products() -> None:
    """Have sums kept in float32 until they are rounded to the result, and the workspace taken be of a known size.

    These are settings of the whole process. torch's own would let cuBLAS round parts of a sum to halves where it likes.
    A workspace that the user has set stays; torch reads its size at the first product.
    """
    matmul = torch.backends.cuda.matmul
    matmul.allow_fp16_reduced_precision_reduction = False
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_accumulation = False
    os.environ.setdefault(WORKSPACE_VARIABLE, WORKSPACE)


def products_bytes(device: torch.device) -> int:
    """What products on one stream of a device keep of its memory from the first one on."""
    if device.type != "cuda":
        return 0
    pieces = _pieces(os.environ.get(WORKSPACE_VARIABLE, "")) or _pieces(WORKSPACE)
    return 1024 * sum(size * count for size, count in pieces) + BESIDES_FOR_BIAS


def _pieces(config: str) -> list[tuple[int, int]]:
    """Sizes in KiB and how many of each, as torch reads them; none where it would warn and take its own."""
    return [(int(size), int(count)) for size, count in re.findall(r":([0-9]+):([0-9]+)", config)]
