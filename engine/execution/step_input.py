"""The input of a step for a device that computes while the host goes on: written once, copied once, read there.

A token that the host does not know yet is the one the step before has sampled, and stands in the results in front of
the input, in the same buffer. So each token of a step comes from a place in that buffer: `token_places`, counted in
words of 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine.execution.packed import Field, PackedLayout
from engine.execution.step_arrays import StepArrays
from engine.ops.backend import AttentionBatch
from engine.ops.tensor_checks import require_indices
from engine.sampling.device_layout import ASKED_BYTES
from engine.scheduling.batch import ScheduledBatch
from engine.scheduling.sequence import Sequence

UINT8, INT32, INT64 = np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64)

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class StepSize:
    """How much a step's input is, what fills it up counted.

    Attributes:
        tokens: T.
        sequences: S.
        rows: L, of logits.
        table_width: B, blocks in a row of the block tables.
        copies: most blocks of the cache that are copied.
        sampling_bytes: most bytes that sampling asks for.
        reads: R, tokens of prompts whose log-probabilities are wanted.
        states: P, tokens of prompts whose hidden states are wanted.
    """

    tokens: int
    sequences: int
    rows: int
    table_width: int
    copies: int
    sampling_bytes: int
    reads: int
    states: int

    def layout(self) -> PackedLayout:
        """Where everything lies; what sampling asks for stands last, since only its beginning is used."""
        return PackedLayout(
            {
                "token_ids": Field((self.tokens,), INT32),
                "token_places": Field((self.tokens,), INT32),
                "positions": Field((self.tokens,), INT32),
                "slots": Field((self.tokens,), INT32),
                "query_start": Field((self.sequences + 1,), INT32),
                "context_lens": Field((self.sequences,), INT32),
                "logit_rows": Field((self.rows,), INT32),
                "copy_sources": Field((self.copies,), INT64),
                "copy_targets": Field((self.copies,), INT64),
                "block_tables": Field((self.sequences, self.table_width), INT32),
                "read_rows": Field((self.reads,), INT32),
                "state_rows": Field((self.states,), INT32),
                "asked": Field((self.reads * ASKED_BYTES,), UINT8),
                "sampling": Field((self.sampling_bytes,), UINT8),
            }
        )


def attention_batch(tensors: Mapping[str, torch.Tensor]) -> AttentionBatch:
    """Where the tokens of a step stand in the cache."""
    return AttentionBatch(
        query_start=tensors["query_start"],
        context_lens=tensors["context_lens"],
        block_tables=tensors["block_tables"],
        slots=tensors["slots"],
    )


class StepWriter:
    """Writes steps into host buffers.

    Args:
        first_word: place of the input's first word in the device's buffer.
        vocab_size: token ids are below this.
    """

    def __init__(self, first_word: int, vocab_size: int) -> None:
        self._first_word = first_word
        self._vocab_size = vocab_size

    def write(
        self,
        arrays: Arrays,
        layout: PackedLayout,
        batch: ScheduledBatch,
        step: StepArrays,
        sampled: Mapping[Sequence, int],
    ) -> None:
        """Write all but what sampling asks for.

        Args:
            arrays: those of `layout`, in the host's buffer. Where they are larger than the step, each of whose
                sequences then computes one token and samples, it is filled up with tokens that belong to no sequence.
            layout: of the buffer.
            batch: the step.
            step: the same, laid out.
            sampled: row of each sequence's token in what the step before has sampled.

        Raises:
            KernelArgumentError: a token does not exist. Kernels trust these and would read beyond their tables.
        """
        self._write_tokens(arrays, layout, batch, step, sampled)
        tokens = batch.num_tokens
        _fill(arrays["positions"], step.positions, 0)
        _fill(arrays["slots"], step.slots, -1)
        _fill(arrays["context_lens"], step.context_lens, 0)
        _fill(arrays["query_start"], step.query_start, tokens)
        _fill(arrays["logit_rows"], step.logit_rows, np.arange(tokens, len(arrays["logit_rows"])))
        _fill(arrays["read_rows"], step.read_rows, 0)
        _fill(arrays["state_rows"], step.state_rows, 0)
        sequences, width = step.block_tables.shape
        arrays["block_tables"].fill(0)
        arrays["block_tables"][:sequences, :width] = step.block_tables
        for row, copy in enumerate(batch.copies):
            arrays["copy_sources"][row], arrays["copy_targets"][row] = copy

    def _write_tokens(
        self,
        arrays: Arrays,
        layout: PackedLayout,
        batch: ScheduledBatch,
        step: StepArrays,
        sampled: Mapping[Sequence, int],
    ) -> None:
        known: list[int] = []
        for item in batch.items:
            known += (0,) if item.in_flight else item.sequence.token_ids[item.start : item.end]
        tokens, places = arrays["token_ids"], arrays["token_places"]
        _fill(tokens, known, 0)
        require_indices("token_ids", torch.from_numpy(tokens), self._vocab_size)
        first = self._first_word + layout.offsets["token_ids"] // INT32.itemsize
        places[:] = np.arange(first, first + len(places), dtype=np.int32)
        for item, row in zip(batch.items, step.query_start.tolist(), strict=False):
            if item.in_flight:
                places[row] = sampled[item.sequence]


def _fill(array: npt.NDArray[Any], values: Any, filling: Any) -> None:
    """Write values to the front of an array, and something else behind them."""
    array[: len(values)] = values
    array[len(values) :] = filling
