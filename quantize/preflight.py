"""Everything that can be found wrong with a job before its first hour."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.formats.dense import DenseFormat
from engine.model.formats.table import format_of
from engine.model.tensor_layout import TensorLayout, check_tensors, tensor_layout
from engine.ops.exl2 import MAX_UNSIGNED_16, ROW_MULTIPLE
from quantize.device import require_device
from quantize.digest import model_identity
from quantize.disk import check_disk
from quantize.exl2.allocate import Choices, extremes
from quantize.measurement_file import read_measurement
from quantize.memory import check_memory
from quantize.options import QuantizeOptions
from quantize.output_directory import require_free
from quantize.overrides import bits_with_overrides, possible_bits
from quantize.padding import open_padded, padded_config
from quantize.progress import Progress
from quantize.recipe import RECIPES
from quantize.source_model import matrix_shapes

HALF_MAX = 65504.0
CHECKED_AT_ONCE = 1 << 22
"""Values that are read together."""


def check_job(options: QuantizeOptions, config: ModelConfig, published: Sequence[float]) -> None:
    """Refuse a job that cannot succeed, as far as that shows without reading a weight.

    Args:
        options: the job.
        config: of the source.
        published: sizes that are finished.

    Raises:
        ConfigError: the device is not there.
        QuantizationError: an output exists, the source is quantized already or has a shape that EXL2 cannot store, a
            size cannot be reached, an override fits nothing, a measurement is of another model, or disk or memory are
            too small.
        CheckpointError: the source is missing or malformed.
    """
    require_device(options.device)
    for bpw in options.bpw:
        if bpw not in published:
            require_free(options.out_of(bpw))
    checkpoint = open_padded(options.source, config)
    padded = padded_config(config)
    layout = tensor_layout(padded, checkpoint)
    check_tensors(layout, checkpoint)
    _check_dense(options.source, checkpoint, layout)
    _check_shapes(layout)
    _check_budget(options, layout, config.spec.names.head)
    if len(published) < len(options.bpw):
        check_disk(options, padded, layout, published)
        check_memory(options, padded, layout)


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
                "only feed-forward widths can be padded without changing what a model computes."
            )
        if shape.in_features > MAX_UNSIGNED_16:
            raise QuantizationError(f"{shape.prefix} has {shape.in_features} inputs; EXL2 ends at {MAX_UNSIGNED_16}.")
    for shape in decoder:
        if shape.out_features % ROW_MULTIPLE:
            raise QuantizationError(
                f"{shape.prefix} has {shape.out_features} outputs. EXL2 stores only multiples of {ROW_MULTIPLE}, and "
                "only feed-forward widths can be padded without changing what a model computes."
            )


def _check_budget(options: QuantizeOptions, layout: TensorLayout, head: str) -> None:
    """Hold every budget to what the matrices can take, the output head `head` among them where it counts."""
    choices = _sizes(options, layout, head)
    fewest, most = possible_bits(choices)
    needed = bits_with_overrides(choices, options.overrides)
    for bpw in options.bpw:
        if not fewest <= bpw <= most:
            raise QuantizationError(
                f"{bpw:g} bits per weight cannot be reached: this model takes at least {fewest:.3f} and at most "
                f"{most:.3f}, scales and permutations included. Ask for {_rounded_up(fewest)} to "
                f"{math.floor(most * 100) / 100:.2f}."
            )
        if bpw < needed:
            raise QuantizationError(
                f"{bpw:g} bits per weight cannot be reached with these overrides: they leave too little for the other "
                f"matrices. Possible are {needed:.3f} to {most:.3f}. Ask for {_rounded_up(needed)} or more, or "
                "override fewer matrices."
            )


def _rounded_up(bits: float) -> str:
    return f"{math.ceil(bits * 100) / 100:.2f}"


def _sizes(options: QuantizeOptions, layout: TensorLayout, head: str) -> list[Choices]:
    """The sizes of everything that can be chosen, from a measurement that is brought along or the one to be made."""
    choices: list[Choices] = []
    if options.measurement is not None:
        identity = model_identity(Checkpoint.open(options.source))
        choices = read_measurement(options.measurement, matrix_shapes(layout, head), identity).choices
    of_head = [each for each in choices if head in each.names] or [extremes(head, layout.head)]
    decoder = [each for each in choices if head not in each.names] or RECIPES[options.recipe].measure.sizes(layout)
    return [*decoder, *of_head] if options.bpw_total else decoder


def check_values(source: Path, progress: Progress) -> str:
    """Read every weight once: everything is stored in half precision, so it must be finite there.

    Returns:
        SHA-256 of names, shapes and values.

    Raises:
        QuantizationError: a value is not; the message names the tensor.
        CheckpointError: the source is missing or malformed.
    """
    checkpoint = Checkpoint.open(source)
    digest = hashlib.sha256()
    progress.stage("Checking the weights", checkpoint.num_bytes)
    for name in sorted(checkpoint.names):
        tensor = checkpoint.tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        for piece in torch.split(tensor.reshape(-1), CHECKED_AT_ONCE):
            digest.update(piece.view(torch.uint8).numpy().data)
        _check_tensor(checkpoint, name, tensor)
        progress.advance(tensor.nbytes, name)
    return digest.hexdigest()


def _check_tensor(checkpoint: Checkpoint, name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point() or not tensor.numel():
        return
    least, most = torch.aminmax(tensor)  # NaN spreads to both
    largest = max(-float(least), float(most))
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
