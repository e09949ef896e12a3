"""How much disk space a job takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.errors import QuantizationError
from engine.model.config import ModelConfig
from engine.model.tensor_layout import TensorLayout
from quantize.measure import MEASUREMENT_ROWS
from quantize.memory import FLOAT, row_length
from quantize.options import QuantizeOptions
from quantize.work_directory import work_path

RESERVE = 64 << 20
"""Bytes wanted beyond the weights, for side files."""


def check_disk(
    options: QuantizeOptions, config: ModelConfig, layout: TensorLayout, published: Sequence[float] = ()
) -> None:
    """Refuse a job that needs more disk space than is free, besides what an earlier one has taken for it already.

    Args:
        options: the job.
        config: of the source.
        layout: of its tensors.
        published: sizes that are finished.

    Raises:
        QuantizationError: it does; the message gives both figures.
    """
    model = sum(model_bytes(options, layout, bpw) for bpw in options.bpw if bpw not in published)
    work = work_bytes(options, config, layout)
    taken = _bytes_below(work_path(options))
    folder = Path(os.path.realpath(options.out))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free + taken < model + work:
        raise QuantizationError(
            f"{options.out} will take about {model >> 20} MiB, and the job {work >> 20} MiB more until it is done, but "
            f"only {free >> 20} MiB are free there{_besides(taken)}. Make room, use fewer calibration rows, or name "
            "another directory."
        )


def model_bytes(options: QuantizeOptions, layout: TensorLayout, bpw: float) -> int:
    """About what a finished model takes."""
    decoder = sum(shape.weights for layer in layout.layers for shape in layer.linears.values())
    head = layout.head.weights
    return int(decoder * bpw / 8 + head * (options.head_bits + 2.5) / 8 + head * 2) + RESERVE


def work_bytes(options: QuantizeOptions, config: ModelConfig, layout: TensorLayout) -> int:
    """What the job takes besides at its peak: what a measurement keeps, rows in the middle of a layer, or a shard."""
    length = row_length(options, config)
    matrices = [shape for layer in layout.layers for shape in layer.linears.values()]
    widest = max(shape.in_features for shape in matrices)
    rows = options.rows * length * (4 * config.hidden_size + 2 * widest) * FLOAT
    trail = (config.num_layers + 2) * min(options.rows, MEASUREMENT_ROWS) * length * config.hidden_size * FLOAT
    model = model_bytes(options, layout, max(options.bpw))
    return max(trail, model + rows, model + min(model, options.shard_bytes))


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _besides(taken: int) -> str:
    return f", besides the {taken >> 20} MiB of work that is there already" if taken else ""
