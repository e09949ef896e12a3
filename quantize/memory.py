"""How much memory a job takes: what one layer needs, whatever the number of layers and of calibration rows."""

from __future__ import annotations

from engine.errors import QuantizationError
from engine.model.config import ModelConfig
from engine.model.formats.base import LinearShape
from engine.model.tensor_layout import TensorLayout
from quantize.device import CUDA, free_device_memory
from quantize.measure import MEASUREMENT_ROWS
from quantize.options import QuantizeOptions
from quantize.sensitivity import OUTPUT_POSITIONS
from quantize.tuning import BATCH_ROWS

FLOAT = 4
"""Bytes of the elements everything is computed in."""

SOLVING_COPIES = 10
"""Matrices of the size of the one that is quantized that are held meanwhile, all temporary ones included."""

MOMENT_COPIES = 7
"""Squares of its inputs' number: second moments, drift, and what becomes of them."""

PROCESS = 64 << 20
"""What the process takes besides: allocator, threads, small buffers."""


def check_memory(options: QuantizeOptions, config: ModelConfig, layout: TensorLayout) -> None:
    """Refuse a job that needs more memory than is free on its device.

    With a GPU the machine's own memory is not looked at: besides files that are mapped little is kept there.

    Raises:
        QuantizationError: it does; the message gives both figures and what can be done.
    """
    free, needed = free_device_memory(options.device), needed_memory(options, config, layout)
    if free is None or needed <= free:  # None: the job may well fit
        return
    where, other = (
        ("GPU memory", "a larger GPU, --device cpu")
        if options.device == CUDA
        else ("memory", "a machine with more memory")
    )
    layer = layer_bytes(layout)
    raise QuantizationError(
        f"Quantizing {options.source} takes about {_gib(needed)} of {where} ({_gib(layer)} for one layer in float32, "
        f"{_gib(needed - layer)} to quantize a matrix in), but only {_gib(free)} are free. "
        f"Use {other}, or shorter rows."
    )


def row_length(options: QuantizeOptions, config: ModelConfig) -> int:
    """Tokens per calibration row: as asked for, but no more than the model's context."""
    return min(options.length, config.max_position_embeddings)


def needed_memory(options: QuantizeOptions, config: ModelConfig, layout: TensorLayout) -> int:
    """Bytes of memory at the job's peak. Files that are mapped do not count: the system keeps of them what fits."""
    length, rows = row_length(options, config), min(options.rows, MEASUREMENT_ROWS)
    layer = layer_bytes(layout)
    decoder = max(solving_bytes(shape) for each in layout.layers for shape in each.linears.values())
    head = layout.head.weights * FLOAT + solving_bytes(layout.head)
    widest = max(shape.out_features for each in layout.layers for shape in each.linears.values())
    activations = length * (config.hidden_size + widest) * FLOAT * 16 + config.num_heads * length**2 * FLOAT * 2
    measuring = 2 * rows * length * config.hidden_size * FLOAT  # the yardstick keeps its rows in memory
    scoring = layout.head.weights * FLOAT + 6 * min(length, OUTPUT_POSITIONS) * config.vocab_size * FLOAT
    tuning = tuning_bytes(options, config, layout) if options.tune else 0
    return PROCESS + max(layer + decoder + measuring + activations, head, scoring, tuning)


def tuning_bytes(options: QuantizeOptions, config: ModelConfig, layout: TensorLayout) -> int:
    """Matrices and embedding four times, as weights, gradients and what they are made of, and a batch's activations."""
    matrices = [*(shape for each in layout.layers for shape in each.linears.values()), layout.head]
    tokens = BATCH_ROWS * row_length(options, config)
    activations = 3 * sum(shape.in_features + shape.out_features for shape in matrices) + 6 * config.vocab_size
    weights = sum(shape.weights for shape in matrices) + config.vocab_size * config.hidden_size
    return (4 * weights + tokens * activations) * FLOAT


def layer_bytes(layout: TensorLayout) -> int:
    """One decoder layer, the largest, in float32."""
    return max(sum(shape.weights for shape in each.linears.values()) for each in layout.layers) * FLOAT


def solving_bytes(shape: LinearShape) -> int:
    """What it takes to quantize a matrix."""
    return (SOLVING_COPIES * shape.weights + MOMENT_COPIES * shape.in_features**2) * FLOAT


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
