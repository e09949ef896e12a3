"""What a model will take in memory, from config.json and the headers of its tensors alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.formats.table import format_of
from engine.model.tensor_layout import GROUPS, LayerLayout, check_tensors, tensor_layout
from engine.ops.backend import Backend
from engine.ops.backend_memory import BackendMemory

LOGIT_BYTES = torch.float32.itemsize


@dataclass(frozen=True, slots=True)
class WeightFootprint:
    """Memory of the weights, in bytes, as a backend keeps them.

    Attributes:
        matrices: of the decoder layers and the head.
        vectors: embedding and norms.
        matrix_weights: numbers in the matrices, padding not counted.
    """

    matrices: int
    vectors: int
    matrix_weights: int

    @property
    def total(self) -> int:
        """All of it: what `WeightSummary.weight_bytes` will be."""
        return self.matrices + self.vectors


def weight_footprint(config: ModelConfig, checkpoint: Checkpoint, backend: Backend) -> WeightFootprint:
    """What `load_model` will keep. No tensor is read.

    Raises:
        CheckpointError: a tensor is missing, left over or of the wrong kind.
        UnsupportedModelError: a matrix is stored in a format Quire recognises but does not read.
    """
    layout = tensor_layout(config, checkpoint)
    check_tensors(layout, checkpoint)
    shapes = [shape for layer in layout.layers for shape in layer.linears.values()] + [layout.head]
    embedding = math.prod(checkpoint.shape(layout.embedding)) * checkpoint.dtype(layout.embedding).itemsize
    norms = sum(length for layer in layout.layers for _, length in layer.norms.values()) + config.hidden_size
    memory = backend.memory
    matrices = sum(format_of(checkpoint, shape.prefix).prepared_bytes(checkpoint, shape, memory) for shape in shapes)
    return WeightFootprint(
        matrices=matrices + sum(_group_bytes(checkpoint, layer, memory) for layer in layout.layers),
        vectors=embedding + norms * backend.activation_dtype.itemsize,
        matrix_weights=sum(shape.weights for shape in shapes),
    )


def _group_bytes(checkpoint: Checkpoint, layer: LayerLayout, memory: BackendMemory) -> int:
    """What a layer's matrices take besides for being computed together."""
    total = 0
    for modules in GROUPS:
        shapes = [layer.linears[module] for module in modules]
        formats = {each.name: each for each in (format_of(checkpoint, shape.prefix) for shape in shapes)}
        if len(formats) == 1:
            total += formats.popitem()[1].group_bytes(checkpoint, shapes, memory)
    return total


def workspace_bytes(config: ModelConfig, dtype: torch.dtype, tokens: int, rows: int) -> int:
    """Memory of a model's activations once it has computed a step: `Transformer.workspace_bytes`.

    Args:
        config: of the model.
        dtype: of activations.
        tokens: in the largest step.
        rows: of logits, the most a step asks for.
    """
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    per_token = 3 * config.hidden_size + 2 * queries + 2 * keys + 2 * config.intermediate_size
    if config.spec.qk_norm:
        per_token += queries + keys
    per_row = (2 * config.hidden_size + config.vocab_size) * dtype.itemsize
    if dtype != torch.float32:
        per_row += config.vocab_size * LOGIT_BYTES
    return tokens * per_token * dtype.itemsize + rows * per_row
