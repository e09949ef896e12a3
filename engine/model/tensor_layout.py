"""Which tensors a model of a given configuration consists of, and whether a checkpoint has exactly those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.formats.base import LinearShape
from engine.model.formats.table import format_of, has_linear
from engine.model.missing_files import reason_of_absence

DROPPABLE_SUFFIXES = (".rotary_emb.inv_freq",)
"""Tensors that old checkpoints carry although they follow from config.json."""

MOST_NAMES_IN_A_MESSAGE = 8


GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Matrices of a layer that have the same input."""


@dataclass(frozen=True, slots=True)
class LayerLayout:
    """The tensors of one decoder layer; modules by their field in `CheckpointNames`."""

    linears: Mapping[str, LinearShape]
    norms: Mapping[str, tuple[str, int]]  # name of the tensor, and its length


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """The tensors of a model.

    Attributes:
        embedding: name of the embedding table; it is that of the head where only the head was saved.
        layers: decoder layers.
        final_norm: name of the norm before the head.
        head: the output head; its prefix is that of the embedding where the embedding serves as one.
    """

    embedding: str
    layers: tuple[LayerLayout, ...]
    final_norm: str
    head: LinearShape

    @property
    def head_is_tied(self) -> bool:
        """Whether one tensor is both embedding and head."""
        return self.embedding == f"{self.head.prefix}.weight"

    @property
    def linears(self) -> Iterator[LinearShape]:
        """Every matrix, a tied head left out."""
        for layer in self.layers:
            yield from layer.linears.values()
        if not self.head_is_tied:
            yield self.head

    @property
    def vectors(self) -> Iterator[str]:
        """Names of the tensors that are in no matrix of `linears`."""
        yield self.embedding
        for layer in self.layers:
            yield from (name for name, _ in layer.norms.values())
        yield self.final_norm


def tensor_layout(config: ModelConfig, checkpoint: Checkpoint) -> TensorLayout:
    """What `config` asks of `checkpoint`.

    Of a tied model either name may have been saved, or both. A head of its own wins over the embedding whatever
    config.json says: EXL2 quantizes the head of a tied model apart from its embedding.
    """
    names = config.spec.names
    embedding, head = names.embedding, names.head
    if config.tie_word_embeddings and not has_linear(checkpoint, head):
        head = embedding
    elif config.tie_word_embeddings and f"{embedding}.weight" not in checkpoint:
        embedding = head
    return TensorLayout(
        embedding=f"{embedding}.weight",
        layers=tuple(_layer_layout(config, index) for index in range(config.num_layers)),
        final_norm=f"{names.final_norm}.weight",
        head=LinearShape(head, config.hidden_size, config.vocab_size, bias=False),
    )


def _layer_layout(config: ModelConfig, index: int) -> LayerLayout:
    names = config.spec.names
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

    def linear(module: str, in_features: int, out_features: int, has_bias: bool) -> LinearShape:
        return LinearShape(names.in_layer(index, module), in_features, out_features, bias=has_bias)

    def norm(module: str, length: int) -> tuple[str, int]:
        return f"{names.in_layer(index, module)}.weight", length

    norms = {
        "input_norm": norm(names.input_norm, hidden),
        "post_attention_norm": norm(names.post_attention_norm, hidden),
    }
    if config.spec.qk_norm:
        norms["q_norm"] = norm(names.q_norm, config.head_dim)
        norms["k_norm"] = norm(names.k_norm, config.head_dim)
    return LayerLayout(
        linears={
            "q_proj": linear(names.q_proj, hidden, queries, config.qkv_bias),
            "k_proj": linear(names.k_proj, hidden, keys, config.qkv_bias),
            "v_proj": linear(names.v_proj, hidden, keys, config.qkv_bias),
            "o_proj": linear(names.o_proj, queries, hidden, config.o_bias),
            "gate_proj": linear(names.gate_proj, hidden, inner, config.mlp_bias),
            "up_proj": linear(names.up_proj, hidden, inner, config.mlp_bias),
            "down_proj": linear(names.down_proj, inner, hidden, config.mlp_bias),
        },
        norms=norms,
    )


def check_tensors(layout: TensorLayout, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that lacks tensors, or has some the model would not use.

    Raises:
        CheckpointError: naming the tensors.
        UnsupportedModelError: a matrix is stored in a format that Quire recognises but does not read.
    """
    missing = [name for name in layout.vectors if name not in checkpoint]
    missing += [f"{shape.prefix}.*" for shape in layout.linears if not has_linear(checkpoint, shape.prefix)]
    if missing:
        reason = reason_of_absence(checkpoint.directory, missing)
        raise CheckpointError(
            f"{checkpoint.directory} lacks {_listing(missing)}; "
            + (reason or "is the download complete, and config.json its own?")
        )
    used = set(layout.vectors)
    for shape in layout.linears:
        found = format_of(checkpoint, shape.prefix).tensor_names(checkpoint, shape.prefix)
        if shape.bias and f"{shape.prefix}.bias" not in checkpoint:
            raise checkpoint.error(f"{shape.prefix}.bias", "it is missing, but this layer must have a bias")
        used.update(found)
    surplus = [name for name in checkpoint.names if name not in used and not name.endswith(DROPPABLE_SUFFIXES)]
    if surplus:
        raise CheckpointError(
            f"{checkpoint.directory} has {_listing(surplus)}, which a model described by its config.json does not "
            "use; loading it would not give the model that was saved"
        )


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES_IN_A_MESSAGE])
    more = len(names) - MOST_NAMES_IN_A_MESSAGE
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}: {shown}" + (f" and {more} more" if more > 0 else "")
