"""From a model directory to a model that runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.load_report import UNREPORTED, LoadReport
from engine.model.attention import AttentionShape, RotaryTables, SelfAttention
from engine.model.attention_protocol import AttentionSpec
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig, load_config
from engine.model.embedding import Embedding
from engine.model.formats.base import FLOAT_DTYPES, BuiltLinear, LinearShape, dtype_name, require_finite
from engine.model.formats.table import build_linear
from engine.model.linear import Linear
from engine.model.mlp import GatedMLP
from engine.model.norm import RMSNorm
from engine.model.rope import rotary_tables
from engine.model.tensor_layout import LayerLayout, TensorLayout, check_tensors, tensor_layout
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
    loader = _Loader(checkpoint, config, backend, max_positions or config.max_position_embeddings, max_tokens)
    return loader.load(layout, report)


def open_checked(directory: Path, config: ModelConfig) -> tuple[Checkpoint, TensorLayout]:
    """The tensors of a model, every header checked against the configuration; nothing is read.

    Raises:
        CheckpointError: as `load_model`, as far as headers tell.
    """
    checkpoint = Checkpoint.open(directory)
    layout = tensor_layout(config, checkpoint)
    check_tensors(layout, checkpoint)
    return checkpoint, layout


class _Loader:
    """Builds the model part by part and counts what it builds."""

    def __init__(
        self, checkpoint: Checkpoint, config: ModelConfig, backend: Backend, max_positions: int, max_tokens: int
    ) -> None:
        self._checkpoint = checkpoint
        self._config = config
        self._backend = backend
        self._workspace = Workspace(backend.device, backend.activation_dtype, max_tokens)
        self._rotary = RotaryTables(*rotary_tables(config.rope, config.head_dim, max_positions, backend.device))
        self._decoder: list[BuiltLinear] = []
        self._parameters = 0
        self._weight_bytes = 0

    def load(self, layout: TensorLayout, report: LoadReport) -> LoadedModel:
        config, backend = self._config, self._backend
        embedding = Embedding(backend, self._table(layout.embedding))
        layers: list[DecoderLayer] = []
        for index, layer in enumerate(layout.layers):
            layers.append(self._layer(index, layer))
            report.reach(self._checkpoint.bytes_read)
        final_norm = self._norm(layout.final_norm, config.hidden_size)
        head = build_linear(self._checkpoint, layout.head, backend)
        self._weight_bytes += head.kernel.nbytes
        if not config.tie_word_embeddings:  # a tied EXL2 model stores the one matrix twice
            self._parameters += head.weights
        model = Transformer(
            config,
            backend,
            self._workspace,
            embedding,
            tuple(layers),
            final_norm,
            Linear(config.spec.names.head, head.kernel),
            max_positions=self._rotary.cos.shape[0],
        )
        return LoadedModel(model, config, self._summary(head))

    def _layer(self, index: int, layout: LayerLayout) -> DecoderLayer:
        config, backend, workspace = self._config, self._backend, self._workspace
        linears = {module: self._linear(shape) for module, shape in layout.linears.items()}
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
        return DecoderLayer(backend, workspace, norms["input_norm"], attention, norms["post_attention_norm"], mlp)

    def _linear(self, shape: LinearShape) -> Linear:
        built = build_linear(self._checkpoint, shape, self._backend)
        self._decoder.append(built)
        self._parameters += built.weights + (shape.out_features if shape.bias else 0)
        self._weight_bytes += built.kernel.nbytes
        return Linear(shape.prefix, built.kernel)

    def _norm(self, name: str, length: int) -> RMSNorm:
        weight = self._read(name, (length,), self._backend.activation_dtype)
        return RMSNorm(self._backend, weight, self._config.rms_norm_eps)

    def _table(self, name: str) -> torch.Tensor:
        return self._read(name, (self._config.vocab_size, self._config.hidden_size), None)

    def _read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None) -> torch.Tensor:
        """A tensor that is no matrix, copied out of its file; in the file's own dtype where none is given."""
        checkpoint = self._checkpoint
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
        copy = torch.empty(shape, dtype=dtype or stored, device=self._backend.device).copy_(source)
        self._parameters += copy.numel()
        self._weight_bytes += copy.nbytes
        return copy

    def _summary(self, head: BuiltLinear) -> WeightSummary:
        weights_of_format: Counter[str] = Counter()
        for built in (*self._decoder, head):
            weights_of_format[built.format] += built.weights
        return WeightSummary(
            weight_format=" + ".join(name for name, _ in weights_of_format.most_common()),
            bits_per_weight=sum(b.stored_bits for b in self._decoder) / sum(b.weights for b in self._decoder),
            head_bits_per_weight=head.stored_bits / head.weights,
            parameters=self._parameters,
            weight_bytes=self._weight_bytes,
        )
