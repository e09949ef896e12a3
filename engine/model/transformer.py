"""The decoder: one definition for every family, written against `Backend` and `Attention` only."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from engine.model.attention import SelfAttention
from engine.model.attention_protocol import Attention
from engine.model.config import ModelConfig
from engine.model.embedding import Embedding
from engine.model.forward_batch import ForwardBatch
from engine.model.linear import Linear, LinearGroup
from engine.model.mlp import GatedMLP
from engine.model.norm import RMSNorm
from engine.model.workspace import Workspace
from engine.ops.backend import Backend
from engine.ops.tensor_checks import require_indices


class DecoderLayer:
    """Norm, attention, norm, MLP, with the residual stream around each half."""

    def __init__(
        self,
        backend: Backend,
        workspace: Workspace,
        input_norm: RMSNorm,
        attention: SelfAttention,
        post_attention_norm: RMSNorm,
        mlp: GatedMLP,
    ) -> None:
        self._backend = backend
        self._workspace = workspace
        self.input_norm = input_norm
        self.attention = attention
        self.post_attention_norm = post_attention_norm
        self.mlp = mlp

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Its matrices, in the order of computation."""
        return (*self.attention.linears, *self.mlp.linears)

    @property
    def groups(self) -> tuple[LinearGroup, ...]:
        """Its matrices by their inputs, those that are computed together."""
        return (*self.attention.groups, *self.mlp.groups)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, attention: Attention) -> None:
        """Update the residual stream x [T, H] in place; positions [T] int32."""
        normed = self._workspace.get("normed", *x.shape)
        branch = self._workspace.get("branch", *x.shape)
        self.input_norm.forward(x, normed, self.attention.input_order)
        self.attention.forward(normed, positions, attention, branch)
        self._backend.add(branch, x)
        self.post_attention_norm.forward(x, normed, self.mlp.input_order)
        self.mlp.forward(normed, branch)
        self._backend.add(branch, x)


class Transformer:
    """Token ids in, logits out. Made by `load_model`.

    Attributes:
        config: what it computes.
        backend: what computes it.
        embedding: token embedding.
        layers: decoder layers.
        final_norm: norm before the head.
        head: output head; its prefix is that of a head even where the embedding serves as one.
        max_positions: positions there are rotary tables for.
    """

    def __init__(
        self,
        config: ModelConfig,
        backend: Backend,
        workspace: Workspace,
        embedding: Embedding,
        layers: tuple[DecoderLayer, ...],
        final_norm: RMSNorm,
        head: Linear,
        max_positions: int,
    ) -> None:
        self.config = config
        self.backend = backend
        self._workspace = workspace
        # kept apart because logits are wide and wanted for few rows: it grows to what a step really asks for
        self._output_workspace = Workspace(backend.device, backend.activation_dtype, rows=1)
        self.embedding = embedding
        self.layers = layers
        self.final_norm = final_norm
        self.head = head
        self._output = LinearGroup(backend, (head,))
        # the residual stream of the latest step
        self._latest = torch.empty(0, config.hidden_size, dtype=backend.activation_dtype, device=backend.device)
        self.max_positions = max_positions

    def forward(self, batch: ForwardBatch, attention: Attention) -> torch.Tensor:
        """Logits, float32 [L, vocab_size], of the rows the batch asks for.

        The result lives in the model's workspace: it is valid until the next call. After a first call with as many
        tokens and logit rows as there will ever be, the model allocates nothing.

        Raises:
            KernelArgumentError: a token, position or row does not exist. Kernels trust these and would read beyond
                their tables.
        """
        self._check_input(batch.token_ids, batch.positions)
        require_indices("logit_rows", batch.logit_rows, batch.token_ids.shape[0])
        return self.compute(batch, attention)

    def compute(self, batch: ForwardBatch, attention: Attention) -> torch.Tensor:
        """As `forward`, for input that has been checked where it was made: on a device it waits for nothing."""
        return self._compute(batch, attention, self.layers)

    def warm_up(self, batch: ForwardBatch, attention: Attention) -> torch.Tensor:
        """Allocate whatever a step as large as this one does.

        Only the first layer is computed: layers share their buffers, and a whole step may take many seconds.

        Returns:
            Numbers without a meaning in the shape of the step's logits; valid until the next call.
        """
        return self._compute(batch, attention, self.layers[:1])

    def _compute(self, batch: ForwardBatch, attention: Attention, layers: tuple[DecoderLayer, ...]) -> torch.Tensor:
        x = self._workspace.get("residual", batch.token_ids.shape[0], self.config.hidden_size)
        self.embedding.forward(batch.token_ids, x)
        for layer in layers:
            layer.forward(x, batch.positions, attention)
        self._latest = x
        return self.logits_at(batch.logit_rows)

    def logits_at(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits, float32 [R, vocab_size], of further tokens of the step computed last; valid until the next call.

        Args:
            rows: [R] int32 which of its tokens. Memory for logits grows to the most that is asked for at a time.
        """
        wanted = self._output_workspace.get("wanted", rows.shape[0], self.config.hidden_size)
        self.backend.take_rows(self._latest, rows, wanted)
        return self.logits(wanted)

    def states_at(self, rows: torch.Tensor) -> torch.Tensor:
        """Hidden states after the last norm, [R, H], of tokens of the step computed last; valid until the next step.

        Args:
            rows: [R] int32 which of its tokens, at most all of them. What layers work with is overwritten.
        """
        shape = rows.shape[0], self.config.hidden_size
        wanted, normed = self._workspace.get("branch", *shape), self._workspace.get("normed", *shape)
        self.backend.take_rows(self._latest, rows, wanted)
        self.final_norm.forward(wanted, normed)
        return normed

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """The residual stream of one whole sequence before the first layer, newly allocated [T, H].

        Args:
            token_ids: [T] int32, at positions 0 to T - 1.

        Raises:
            KernelArgumentError: a token does not exist, or the sequence is longer than `max_positions`.
        """
        self._check_input(token_ids, torch.arange(token_ids.shape[0]))
        shape = (token_ids.shape[0], self.config.hidden_size)
        x = torch.empty(shape, dtype=self.backend.activation_dtype, device=self.backend.device)
        self.embedding.forward(token_ids, x)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Final norm and head: float32 [R, vocab_size] from the residual stream x [R, H], which is left as it is.

        The result lives in the model's workspace: it is valid until the next call.
        """
        normed = self._output_workspace.get("normed", *x.shape)
        projected = self._output_workspace.get("logits", x.shape[0], self.config.vocab_size)
        if x.shape[0] > 0:
            self.final_norm.forward(x, normed, self._output.input_order)
            self._output.forward(normed, (projected,))
        if projected.dtype == torch.float32:
            return projected
        wide = self._output_workspace.get("wide_logits", x.shape[0], self.config.vocab_size, torch.float32)
        return wide.copy_(projected)

    @property
    def workspace_bytes(self) -> int:
        """Memory its activations and logits hold."""
        return self._workspace.nbytes + self._output_workspace.nbytes

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every matrix with its name in the checkpoint: the layers' in the order of computation, then the head."""
        for layer in self.layers:
            for linear in layer.linears:
                yield linear.prefix, linear
        yield self.head.prefix, self.head

    def _check_input(self, token_ids: torch.Tensor, positions: torch.Tensor) -> None:
        require_indices("token_ids", token_ids, self.config.vocab_size)
        require_indices("positions", positions, self.max_positions)
