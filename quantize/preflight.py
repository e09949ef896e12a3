"""Everything that can be found wrong with a job before its first hour."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.formats.dense import DenseFormat
from engine.model.formats.table import format_of
from engine.model.tensor_layout import TensorLayout, check_tensors, tensor_layout
from engine.ops.exl2 import MAX_UNSIGNED_16, ROW_MULTIPLE, layout_bits
from quantize.exl2.allocate import require_reachable
from quantize.exl2.candidates import smallest_groups
from quantize.memory import check_memory
from quantize.options import QuantizeOptions
from quantize.output_directory import require_free
from quantize.progress import Progress

HALF_MAX = 65504.0
DISK_RESERVE = 64 << 20
"""Bytes wanted beyond the weights, for side files."""


def check_job(options: QuantizeOptions, config: ModelConfig) -> None:
    """Refuse a job that cannot succeed, as far as that shows without reading a weight.

    Args:
        options: the job.
        config: of the source.

    Raises:
        QuantizationError: the output exists, the source is quantized already or has a shape that EXL2 cannot store, or
            disk or memory are too small.
        CheckpointError: the source is missing or malformed.
    """
    require_free(options.out)
    checkpoint = Checkpoint.open(options.source)
    layout = tensor_layout(config, checkpoint)
    _check_dense(options.source, checkpoint, layout)
    check_tensors(layout, checkpoint)
    _check_shapes(layout)
    _check_budget(options, layout)
    _check_disk(options, layout)
    check_memory(options, config, layout)


def _check_dense(source: Path, checkpoint: Checkpoint, layout: TensorLayout) -> None:
    if any(name.endswith(".q_weight") for name in checkpoint.names):
        raise QuantizationError(
            f"{source} is quantized in EXL2 already. Quantize the original model, or make a dense one of this first: "
            f"quire convert {source} DENSE --to dense (what the quantization lost does not come back)."
        )
    for shape in layout.linears:
        found = format_of(checkpoint, shape.prefix)
        if found.name != DenseFormat.name:
            raise QuantizationError(
                f"{shape.prefix} in {source} is stored as {found.name}; only dense weights will do."
            )


def _check_shapes(layout: TensorLayout) -> None:
    decoder = [shape for layer in layout.layers for shape in layer.linears.values()]
    for shape in (*decoder, layout.head):
        if shape.in_features % ROW_MULTIPLE:
            raise QuantizationError(
                f"{shape.prefix} has {shape.in_features} inputs. EXL2 stores only multiples of {ROW_MULTIPLE}, and "
                "Quire does not pad models yet."
            )
        if shape.in_features > MAX_UNSIGNED_16:
            raise QuantizationError(f"{shape.prefix} has {shape.in_features} inputs; EXL2 ends at {MAX_UNSIGNED_16}.")
    for shape in decoder:
        if shape.out_features % ROW_MULTIPLE:
            raise QuantizationError(
                f"{shape.prefix} has {shape.out_features} outputs. EXL2 stores only multiples of {ROW_MULTIPLE}, and "
                "Quire does not pad models yet."
            )


def _check_budget(options: QuantizeOptions, layout: TensorLayout) -> None:
    decoder = [shape for layer in layout.layers for shape in layer.linears.values()]
    weights = sum(shape.weights for shape in decoder)
    bits = sum(layout_bits(smallest_groups(shape.in_features), shape.out_features) for shape in decoder)
    require_reachable(options.bpw, bits / weights)


def _check_disk(options: QuantizeOptions, layout: TensorLayout) -> None:
    decoder = sum(shape.weights for layer in layout.layers for shape in layer.linears.values())
    head = layout.head.weights
    needed = int(decoder * options.bpw / 8 + head * (options.head_bits + 2.5) / 8 + head * 2) + DISK_RESERVE
    folder = options.out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise QuantizationError(
            f"{options.out} will take about {needed >> 20} MiB, but only {free >> 20} MiB are free there. "
            "Make room or name another directory."
        )


def check_values(source: Path, progress: Progress) -> None:
    """Read every weight once: everything is stored in half precision, so it must be finite there.

    Raises:
        QuantizationError: a value is not; the message names the tensor.
        CheckpointError: the source is missing or malformed.
    """
    checkpoint = Checkpoint.open(source)
    progress.stage("Checking the weights", len(checkpoint.names))
    for name in checkpoint.names:
        _check_tensor(checkpoint, name)
        progress.advance(1, name)


def _check_tensor(checkpoint: Checkpoint, name: str) -> None:
    tensor = checkpoint.tensor(name)
    if not tensor.is_floating_point():
        return
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    if not largest < float("inf"):  # NaN too
        position = int(torch.isfinite(tensor).logical_not().flatten().nonzero()[0])
        raise QuantizationError(
            f"{name} in {checkpoint.path_of(name)} has a value that is no finite number (entry {position}). "
            "The source is damaged; fetch it again."
        )
    if largest > HALF_MAX:
        raise QuantizationError(
            f"{name} in {checkpoint.path_of(name)} has values up to {largest:.6g}; EXL2 stores half precision, "
            f"which ends at {HALF_MAX:.0f}."
        )
