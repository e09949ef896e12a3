"""Running a model of ours in the two ways there are: whole sequences, and step by step over a paged cache."""

from __future__ import annotations

import torch

from engine.model.attention_protocol import AttentionSpec, Rotation
from engine.model.config import ModelConfig
from engine.model.forward_batch import ForwardBatch
from engine.model.full_attention import FullAttention
from engine.model.transformer import Transformer
from engine.ops.backend import AttentionBatch, Backend

BLOCK_SIZE = 4


def int32(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def positions_of(lengths: list[int]) -> torch.Tensor:
    return torch.cat([torch.arange(length, dtype=torch.int32) for length in lengths])


def full_logits(model: Transformer, sequences: list[torch.Tensor]) -> torch.Tensor:
    """Logits of every token, [T, vocab], from one forward pass over all sequences."""
    lengths = [len(tokens) for tokens in sequences]
    rows = torch.arange(sum(lengths), dtype=torch.int32)
    batch = ForwardBatch(torch.cat(sequences), positions_of(lengths), rows)
    return model.forward(batch, FullAttention(lengths)).clone()


class PagedAttention:
    """`Attention` over a small paged cache whose blocks are handed out in shuffled order."""

    def __init__(self, backend: Backend, config: ModelConfig, lengths: list[int], seed: int = 0) -> None:
        self._backend = backend
        per_sequence = max(-(-length // BLOCK_SIZE) for length in lengths)
        blocks = per_sequence * len(lengths)
        shuffled = torch.randperm(blocks, generator=torch.Generator().manual_seed(seed)).to(torch.int32)
        self._tables = shuffled.view(len(lengths), per_sequence)
        shape = (config.num_layers, blocks, config.num_kv_heads, BLOCK_SIZE, config.head_dim)
        self._keys = torch.full(shape, float("nan"))  # what was never stored must never be read
        self._values = torch.full(shape, float("nan"))
        self._batch: AttentionBatch | None = None

    def plan(self, spans: list[tuple[int, int, int]]) -> None:
        """The next step computes positions start … end - 1 of each (sequence, start, end)."""
        slots, starts = [], [0]
        for sequence, start, end in spans:
            table = self._tables[sequence].tolist()
            slots += [table[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in range(start, end)]
            starts.append(len(slots))
        self._batch = AttentionBatch(
            query_start=int32(starts),
            context_lens=int32([end for _, _, end in spans]),
            block_tables=self._tables[[sequence for sequence, _, _ in spans]].contiguous(),
            slots=int32(slots),
        )

    def attend(
        self,
        layer: int,
        spec: AttentionSpec,
        rotation: Rotation,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> None:
        assert self._batch is not None
        keys, values = self._keys[layer], self._values[layer]
        rotation.apply_and_store(q, k, v, keys, values, self._batch)
        self._backend.paged_attention(q, keys, values, self._batch, spec.scale, spec.window, out, places)


def paged_logits(model: Transformer, sequences: list[torch.Tensor], chunks: list[int]) -> torch.Tensor:
    """Logits of every token, [T, vocab]: prefill in the given chunks, then one token at a time, all sequences mixed.

    Sequence s joins at step s, so that prefill chunks and decodes of different sequences share steps.
    """
    lengths = [len(tokens) for tokens in sequences]
    attention = PagedAttention(model.backend, model.config, lengths)
    done = [0] * len(sequences)
    collected: list[list[torch.Tensor]] = [[] for _ in sequences]
    step = 0
    while any(count < length for count, length in zip(done, lengths, strict=True)):
        spans = []
        for sequence, length in enumerate(lengths):
            own_step = step - sequence
            if own_step >= 0 and done[sequence] < length:
                size = chunks[own_step] if own_step < len(chunks) else 1
                spans.append((sequence, done[sequence], min(length, done[sequence] + size)))
        attention.plan(spans)
        tokens = torch.cat([sequences[s][start:end] for s, start, end in spans])
        positions = torch.cat([torch.arange(start, end, dtype=torch.int32) for _, start, end in spans])
        rows = torch.arange(len(tokens), dtype=torch.int32)
        logits = model.forward(ForwardBatch(tokens, positions, rows), attention).clone()
        first_row = 0
        for sequence, start, end in spans:
            collected[sequence].append(logits[first_row : first_row + end - start])
            first_row += end - start
            done[sequence] = end
        step += 1
    return torch.cat([part for parts in collected for part in parts])


class ScoreRecorder:
    """`FullAttention` that also notes how much the scaled scores q·k vary."""

    def __init__(self, lengths: list[int]) -> None:
        self._inner = FullAttention(lengths)
        self._lengths = lengths
        self.deviations: list[float] = []

    def attend(
        self,
        layer: int,
        spec: AttentionSpec,
        rotation: Rotation,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> None:
        repeats = q.shape[1] // k.shape[1]
        longest = slice(0, self._lengths[0])
        queries, keys = q.clone(), k.clone()
        rotation.apply(queries, keys)
        keys = keys[longest].repeat_interleave(repeats, dim=1)
        scores = torch.einsum("qhd,khd->hqk", queries[longest], keys) * spec.scale
        self.deviations.append(float(scores.std()))
        self._inner.attend(layer, spec, rotation, q, k, v, out, places)
