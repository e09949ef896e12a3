"""From a scheduled step to the tensors the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch

from engine.execution.block_tables import BlockTables
from engine.execution.step_arrays import Int32Array, StepArrays
from engine.model.forward_batch import ForwardBatch
from engine.ops.backend import AttentionBatch
from engine.scheduling.batch import ScheduledBatch
from engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ModelInput:
    """Everything one forward pass reads. Valid until the builder builds the next one.

    Attributes:
        forward: tokens, positions, rows of logits.
        attention: where the tokens stand in the cache.
        read_rows: [R] int32 tokens whose logits are wanted besides.
        state_rows: [P] int32 tokens whose hidden states are.
    """

    forward: ForwardBatch
    attention: AttentionBatch
    read_rows: torch.Tensor
    state_rows: torch.Tensor


class BatchBuilder:
    """Fills int32 buffers that are made once for the largest step.

    Args:
        max_tokens: most tokens in a step.
        max_seqs: most sequences in a step.
        max_blocks: most cache blocks of one sequence.
        block_size: tokens per block.
        device: where the model wants its input.
    """

    def __init__(self, max_tokens: int, max_seqs: int, max_blocks: int, block_size: int, device: torch.device) -> None:
        self._block_size = block_size
        self._tables = BlockTables(block_size)
        self._token_ids = _Buffer(max_tokens, device)
        self._positions = _Buffer(max_tokens, device)
        self._slots = _Buffer(max_tokens, device)
        self._logit_rows = _Buffer(max_seqs, device)
        self._read_rows = _Buffer(max_tokens, device)
        self._state_rows = _Buffer(max_tokens, device)
        self._query_start = _Buffer(max_seqs + 1, device)
        self._context_lens = _Buffer(max_seqs, device)
        self._block_tables = _Buffer(max_seqs * max_blocks, device)

    def build(self, batch: ScheduledBatch, in_flight: Mapping[Sequence, int]) -> ModelInput:
        """Lay the tokens of all sequences one after the other, in the order of the batch.

        Args:
            batch: the step.
            in_flight: tokens that the sequences of the batch do not know yet.
        """
        step = StepArrays.of(batch, self._block_size, self._tables)
        return ModelInput(
            forward=ForwardBatch(
                token_ids=self._token_ids.fill(_token_ids(batch, in_flight)),
                positions=self._positions.fill(step.positions),
                logit_rows=self._logit_rows.fill(step.logit_rows),
            ),
            attention=AttentionBatch(
                query_start=self._query_start.fill(step.query_start),
                context_lens=self._context_lens.fill(step.context_lens),
                block_tables=self._block_tables.fill(step.block_tables),
                slots=self._slots.fill(step.slots),
            ),
            read_rows=self._read_rows.fill(step.read_rows),
            state_rows=self._state_rows.fill(step.state_rows),
        )


def _token_ids(batch: ScheduledBatch, in_flight: Mapping[Sequence, int]) -> list[int]:
    tokens: list[int] = []
    for item in batch.items:
        if item.in_flight:
            tokens.append(in_flight[item.sequence])
        else:
            tokens += item.sequence.token_ids[item.start : item.end]
    return tokens


class _Buffer:
    """Host memory of fixed size, shared by an array that is filled and a tensor that is handed out."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._array = np.zeros(size, np.int32)
        self._tensor = torch.from_numpy(self._array)
        self._device = device

    def fill(self, values: Int32Array | Seq[int]) -> torch.Tensor:
        """Write values to the front and return that part in their shape, on the device."""
        source = np.asarray(values, np.int32)
        self._array[: source.size] = source.reshape(-1)
        return self._tensor[: source.size].view(source.shape).to(self._device)
