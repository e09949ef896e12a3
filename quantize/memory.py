"""How much memory a job takes."""

from __future__ import annotations

from engine.errors import CapacityError, QuantizationError
from engine.free_memory import free_memory
from engine.model.config import ModelConfig
from engine.model.formats.base import LinearShape
from engine.model.tensor_layout import TensorLayout
from quantize.measure import LOGIT_POSITIONS
from quantize.options import QuantizeOptions

FLOAT = 4
"""Bytes of the elements everything is computed in."""


def check_memory(options: QuantizeOptions, config: ModelConfig, layout: TensorLayout) -> None:
    """Refuse a job that needs more memory than is free.

    Raises:
        QuantizationError: it does; the message gives both figures and what can be done.
    """
    try:
        free = free_memory()
    except CapacityError:
        return  # a system that does not tell; the job may well fit
    model, work, rows = model_bytes(config, layout), work_bytes(options, config, layout), row_bytes(config, layout)
    tokens = options.rows * row_length(options, config)
    needed = model + work + rows * tokens
    if needed <= free:
        return
    affordable = (free - model - work) // rows
    advice = "Use a machine with more memory."
    if affordable > 0:
        advice = f"Of {tokens} calibration tokens, {affordable} would fit: use fewer or shorter rows."
    raise QuantizationError(
        f"Quantizing {options.source} takes about {_gib(needed)} of memory ({_gib(model)} for the model in float32, "
        f"{_gib(rows * tokens)} for the calibration rows, {_gib(work)} to work in), but only {_gib(free)} are free. "
        f"{advice}"
    )


def row_length(options: QuantizeOptions, config: ModelConfig) -> int:
    """Tokens per calibration row: as asked for, but no more than the model's context."""
    return min(options.length, config.max_position_embeddings)


def model_bytes(config: ModelConfig, layout: TensorLayout) -> int:
    """What the source takes: every matrix in float32."""
    return (sum(shape.weights for shape in _matrices(layout)) + config.vocab_size * config.hidden_size) * FLOAT


def row_bytes(config: ModelConfig, layout: TensorLayout) -> int:
    """What each calibration token takes: residual streams and inputs of the widest matrix, quantized and original."""
    widest = max(shape.in_features for layer in layout.layers for shape in layer.linears.values())
    return 2 * (config.hidden_size + widest) * FLOAT


def work_bytes(options: QuantizeOptions, config: ModelConfig, layout: TensorLayout) -> int:
    """What the largest step takes besides, and the weight file that is gathered meanwhile."""
    probabilities = min(LOGIT_POSITIONS, options.rows * row_length(options, config)) * config.vocab_size
    largest = max(3 * probabilities * FLOAT, *(_solving_bytes(shape) for shape in _matrices(layout)))
    stored = sum(shape.weights for shape in _matrices(layout)) * options.bpw / 8
    stored += 2 * config.vocab_size * config.hidden_size
    return largest + min(options.shard_bytes, int(stored))


def _matrices(layout: TensorLayout) -> tuple[LinearShape, ...]:
    """Every matrix that is quantized; a tied head is one of them."""
    return (*(shape for layer in layout.layers for shape in layer.linears.values()), layout.head)


def _solving_bytes(shape: LinearShape) -> int:
    """Quantizing one matrix takes about five copies of it and six of the second moments of its inputs."""
    return (5 * shape.weights + 6 * shape.in_features**2) * FLOAT


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
