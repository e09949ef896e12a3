"""Where the tokens of a scheduled step stand, as arrays on the host: what every way of running it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.execution.block_tables import BlockTables
from engine.scheduling.batch import ScheduledBatch

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StepArrays:
    """A step of T tokens of S sequences, all int32. Tokens lie one sequence after the other, in the batch's order.

    Attributes:
        positions: [T] position of each token in its own sequence.
        slots: [T] `block * block_size + offset` of each token in the cache.
        query_start: [S + 1] first token of each sequence, and T.
        context_lens: [S] tokens of each sequence in the cache after the step.
        block_tables: [S, B] blocks of each sequence, as many as the longest has; unused entries are 0.
        logit_rows: [L] the last token of each sequence that samples.
        read_rows: [R] the tokens whose logits a sequence reads.
        state_rows: [P] the tokens whose hidden states a sequence reads.
    """

    positions: Int32Array
    slots: Int32Array
    query_start: Int32Array
    context_lens: Int32Array
    block_tables: Int32Array
    logit_rows: Int32Array
    read_rows: Int32Array
    state_rows: Int32Array

    @classmethod
    def of(cls, batch: ScheduledBatch, block_size: int, known: BlockTables) -> StepArrays:
        """Lay a step out.

        Args:
            batch: the step. Blocks that a sequence holds beyond its tokens of this step are left out.
            block_size: tokens per block.
            known: tables of the step before; becomes those of this one.
        """
        items = batch.items
        starts = np.array([item.start for item in items], np.int32)
        counts = np.array([item.num_tokens for item in items], np.int32)
        sampling = np.array([item.sample for item in items], np.bool_)
        query_start = np.zeros(len(items) + 1, np.int32)
        np.cumsum(counts, out=query_start[1:])

        context_lens = starts + counts
        positions = np.arange(batch.num_tokens, dtype=np.int32) + np.repeat(starts - query_start[:-1], counts)
        tables = np.zeros((len(items), -(-int(context_lens.max()) // block_size)), np.int32)
        for row, item in zip(tables, items, strict=True):
            blocks = known.of(item)
            row[: len(blocks)] = blocks
        known.end_step()
        numbers, offsets = np.divmod(positions, np.int32(block_size))
        sequence_of_token = np.repeat(np.arange(len(items)), counts)
        return cls(
            positions=positions,
            slots=tables[sequence_of_token, numbers] * block_size + offsets,
            query_start=query_start,
            context_lens=context_lens,
            block_tables=tables,
            logit_rows=query_start[1:][sampling] - 1,
            read_rows=_rows([item.scored for item in items], starts, query_start),
            state_rows=_rows([item.pooled for item in items], starts, query_start),
        )


def _rows(reads: Sequence[range], starts: Int32Array, query_start: Int32Array) -> Int32Array:
    """Tokens of the step at these positions of each sequence."""
    rows = [
        np.arange(each.start, each.stop, dtype=np.int32) - start + first
        for each, start, first in zip(reads, starts, query_start[:-1], strict=True)
        if each
    ]
    return np.concatenate(rows) if rows else np.zeros(0, np.int32)
