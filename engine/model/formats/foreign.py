"""Formats Quire recognises, to say so by name, but does not read."""

from __future__ import annotations

import torch

from engine.model.checkpoint import Checkpoint

FLOAT8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def foreign_format(checkpoint: Checkpoint, prefix: str) -> str | None:
    """Name of the unreadable format a layer is stored in, or None if none is recognised."""
    if f"{prefix}.qweight" in checkpoint:
        return _gptq_or_awq(checkpoint, prefix)
    if f"{prefix}.weight.absmax" in checkpoint:
        return "bitsandbytes 4-bit"
    if f"{prefix}.SCB" in checkpoint:
        return "bitsandbytes 8-bit"
    if f"{prefix}.trellis" in checkpoint:
        return "EXL3"
    if f"{prefix}.weight_packed" in checkpoint:
        return "compressed-tensors"
    if f"{prefix}.weight" in checkpoint and checkpoint.dtype(f"{prefix}.weight") in FLOAT8_DTYPES:
        return "FP8"
    return None


def _gptq_or_awq(checkpoint: Checkpoint, prefix: str) -> str:
    """GPTQ packs its codes down the rows, AWQ along the columns; old GPTQ files lack `g_idx`."""
    if f"{prefix}.g_idx" in checkpoint:
        return "GPTQ"
    if f"{prefix}.scales" not in checkpoint:
        return "GPTQ or AWQ"
    columns, scale_columns = (checkpoint.shape(f"{prefix}.{suffix}")[-1:] for suffix in ("qweight", "scales"))
    return "GPTQ" if columns == scale_columns else "AWQ"
