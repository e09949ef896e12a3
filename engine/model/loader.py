"""From a model directory to a model that runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from engine.load_report import UNREPORTED, LoadReport
from engine.model.attention import AttentionShape, RotaryTables, SelfAttention
from engine.model.attention_protocol import AttentionSpec
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig, load_config
from engine.model.embedding import Embedding
from engine.model.formats.base import FLOAT_DTYPES, LinearShape, dtype_name, require_finite
from engine.model.formats.table import build_linear
from engine.model.linear import Linear
from engine.model.mlp import GatedMLP
from engine.model.norm import RMSNorm
from engine.model.rope import rotary_tables
from engine.model.tensor_layout import TensorLayout, check_tensors, tensor_layout
from engine.model.transformer import DecoderLayer, Transformer
from engine.model.workspace import Workspace
from engine.ops.backend import Backend


@dataclass(frozen=True, slots=True)
class WeightSummary:
    """What the weights of a model are.

    Attributes:
        weight_format: formats of the matrices, that of most weights first, e.g. `exl2 + float16`.
        bits_per_weight: stored bits per weight of the decoder layers' matrices.
        head_bits_per_weight: stored bits per weight of the output head.
        parameters: weights in total; embedding and head count once where config.json ties them.
        weight_bytes: memory the prepared weights hold.
    """

    weight_format: str
    bits_per_weight: float
    head_bits_per_weight: float
    parameters: int
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, what it computes, and what its weights are."""

    model: Transformer
    config: ModelConfig
    summary: WeightSummary


def load_model(
    directory: Path,
    backend: Backend,
    *,
    config: ModelConfig | None = None,
    max_positions: int | None = None,
    max_tokens: int = 512,
    report: LoadReport = UNREPORTED,
) -> LoadedModel:
    """Read the weights of a model directory and prepare them for a backend.

    Args:
        directory: holds config.json and *.safetensors.
        backend: computes the model.
        config: what to compute; None reads it from the directory.
        max_positions: positions to make rotary tables for; None means what the model was made for.
        max_tokens: tokens per forward pass to reserve memory for; more still work.
        report: told how many bytes of the files have been read.

    Raises:
        CheckpointError: a file or tensor is missing, malformed, left over, or contradicts config.json.
        UnsupportedModelError: the model asks for something Quire does not implement.
    """
    config = load_config(directory) if config is None else config
    checkpoint, layout = open_checked(directory, config)
    report.stage("weights", checkpoint.num_bytes)
    parts = ModelParts(checkpoint, layout, config, backend, max_positions or config.max_position_embeddings, max_tokens)
    embedding = parts.embedding()
    layers: list[DecoderLayer] = []
    for index in range(config.num_layers):
        layers.append(parts.layer(index))
        report.reach(checkpoint.bytes_read)
    model = Transformer(
        config,
        backend,
        parts.workspace,
        embedding,
        tuple(layers),
        parts.final_norm(),
        parts.head(),
        max_positions=parts.max_positions,
    )
    return LoadedModel(model, config, parts.summary())


def open_checked(directory: Path, config: ModelConfig) -> tuple[Checkpoint, TensorLayout]:
    """The tensors of a model, every header checked against the configuration; nothing is read.

    Raises:
        CheckpointError: as `load_model`, as far as headers tell.
    """
    checkpoint = Checkpoint.open(directory)
    layout = tensor_layout(config, checkpoint)
    check_tensors(layout, checkpoint)
    return checkpoint, layout


class ModelParts:
    """The parts of a model, each read and prepared when it is asked for, and again when it is asked for again.

    Whoever needs a whole model calls `load_model`; whoever visits one layer after the other holds one at a time.

    Attributes:
        config: what the model computes.
        backend: what computes it.
        checkpoint: the tensors.
        layout: their names and shapes.
        workspace: activations, shared by all parts.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: TensorLayout,
        config: ModelConfig,
        backend: Backend,
        max_positions: int,
        max_tokens: int,
    ) -> None:
        self.config = config
        self.backend = backend
        self.checkpoint = checkpoint
        self.layout = layout
        self.workspace = Workspace(backend.device, backend.activation_dtype, max_tokens)
        self._rotary = RotaryTables(*rotary_tables(config.rope, config.head_dim, max_positions, backend.device))
        self._matrices: dict[str, _Matrix] = {}
        self._vectors: dict[str, _Vector] = {}
        self._group_bytes: dict[int, int] = {}

    @classmethod
    def open(
        cls, checkpoint: Checkpoint, config: ModelConfig, backend: Backend, max_positions: int, max_tokens: int
    ) -> ModelParts:
        """The parts of a checkpoint, held to its configuration; arguments and errors as of `load_model`."""
        layout = tensor_layout(config, checkpoint)
        check_tensors(layout, checkpoint)
        return cls(checkpoint, layout, config, backend, max_positions, max_tokens)

    @property
    def max_positions(self) -> int:
        """Positions there are rotary tables for."""
        return self._rotary.cos.shape[0]

    def embedding(self) -> Embedding:
        """The table of token embeddings, in the file's own element type."""
        shape = (self.config.vocab_size, self.config.hidden_size)
        return Embedding(self.backend, self._read(self.layout.embedding, shape, None))

    def final_norm(self) -> RMSNorm:
        """The norm before the head."""
        return self._norm(self.layout.final_norm, self.config.hidden_size)

    def head(self) -> Linear:
        """The output head; its prefix is that of a head even where the embedding serves as one."""
        return Linear(self.config.spec.names.head, self._build(self.layout.head).kernel)

    def layer(self, index: int) -> DecoderLayer:
        """One decoder layer."""
        config, backend, workspace = self.config, self.backend, self.workspace
        layout = self.layout.layers[index]
        linears = {module: self._build(shape) for module, shape in layout.linears.items()}
        norms = {module: self._norm(name, length) for module, (name, length) in layout.norms.items()}
        attention = SelfAttention(
            backend,
            workspace,
            AttentionShape(
                layer=index,
                num_heads=config.num_heads,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                spec=AttentionSpec(scale=config.attention_scale, window=config.windows[index]),
            ),
            self._rotary,
            q_proj=linears["q_proj"],
            k_proj=linears["k_proj"],
            v_proj=linears["v_proj"],
            o_proj=linears["o_proj"],
            q_norm=norms.get("q_norm"),
            k_norm=norms.get("k_norm"),
        )
        mlp = GatedMLP(backend, workspace, linears["gate_proj"], linears["up_proj"], linears["down_proj"])
        layer = DecoderLayer(backend, workspace, norms["input_norm"], attention, norms["post_attention_norm"], mlp)
        self._group_bytes[index] = sum(group.nbytes for group in layer.groups)
        return layer

    def summary(self) -> WeightSummary:
        """What the weights are; every part must have been asked for."""
        head = self.layout.head
        weights_of_format: Counter[str] = Counter()
        for built in self._matrices.values():
            weights_of_format[built.format] += built.weights
        decoder = [shape for layer in self.layout.layers for shape in layer.linears.values()]
        weights = sum(self._matrices[shape.prefix].weights for shape in decoder)
        biases = sum(shape.out_features for shape in decoder if shape.bias)
        untied = 0 if self.config.tie_word_embeddings else head.weights  # a tied EXL2 model stores the one matrix twice
        return WeightSummary(
            weight_format=" + ".join(name for name, _ in weights_of_format.most_common()),
            bits_per_weight=sum(self._matrices[shape.prefix].stored_bits for shape in decoder) / weights,
            head_bits_per_weight=self._matrices[head.prefix].stored_bits / head.weights,
            parameters=weights + biases + untied + sum(part.parameters for part in self._vectors.values()),
            weight_bytes=sum(part.nbytes for part in self._matrices.values())
            + sum(self._group_bytes.values())
            + sum(part.nbytes for part in self._vectors.values()),
        )

    def _build(self, shape: LinearShape) -> Linear:
        built = build_linear(self.checkpoint, shape, self.backend)
        self._matrices[shape.prefix] = _Matrix(built.format, built.stored_bits, built.weights, built.kernel.nbytes)
        return Linear(shape.prefix, built.kernel)

    def _norm(self, name: str, length: int) -> RMSNorm:
        weight = self._read(name, (length,), self.backend.activation_dtype)
        return RMSNorm(self.backend, weight, self.config.rms_norm_eps)

    def _read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None) -> torch.Tensor:
        """A tensor that is no matrix, copied out of its file; in the file's own dtype where none is given."""
        checkpoint = self.checkpoint
        stored = checkpoint.dtype(name)
        if stored not in FLOAT_DTYPES:
            known = ", ".join(dtype_name(each) for each in FLOAT_DTYPES)
            raise checkpoint.error(name, f"its element type is {dtype_name(stored)}, it must be one of {known}")
        if checkpoint.shape(name) != shape:
            raise checkpoint.error(
                name, f"its shape is {list(checkpoint.shape(name))}, config.json asks for {list(shape)}"
            )
        source = checkpoint.tensor(name)
        require_finite(checkpoint, name, source)
        copy = torch.empty(shape, dtype=dtype or stored, device=self.backend.device).copy_(source)
        self._vectors[name] = _Vector(copy.numel(), copy.nbytes)
        return copy


class _Matrix(NamedTuple):
    """What is remembered of a matrix that was prepared."""

    format: str
    stored_bits: int
    weights: int
    nbytes: int


class _Vector(NamedTuple):
    """What is remembered of any other tensor that was read."""

    parameters: int
    nbytes: int
