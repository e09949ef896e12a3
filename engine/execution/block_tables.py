"""The block tables of running sequences as arrays, so that a step writes down only what is new of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.scheduling.batch import ScheduledSequence
from engine.scheduling.sequence import Sequence

Int32Array = npt.NDArray[np.int32]

ROOM = 16
"""Blocks by which an array is longer than it must be, so that it rarely grows."""


@dataclass(slots=True)
class _Known:
    blocks: Int32Array
    epoch: int


class BlockTables:
    """Remembers the tables of the sequences that took part in the latest step.

    Args:
        block_size: tokens per block.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._known: dict[Sequence, _Known] = {}
        self._coming: dict[Sequence, _Known] = {}

    def of(self, item: ScheduledSequence) -> Int32Array:
        """Blocks of a sequence up to this step's last token; valid until it is asked for again.

        Blocks before the step's first token are as they were: while a sequence runs, only those it writes to change.
        """
        sequence = item.sequence
        used = -(-item.end // self._block_size)
        known = self._known.get(sequence)
        if known is None or known.epoch != sequence.epoch or len(known.blocks) < used:
            known = _Known(np.zeros(used + ROOM, np.int32), sequence.epoch)
            known.blocks[:used] = sequence.block_table[:used]
        else:
            first = item.start // self._block_size
            known.blocks[first:used] = sequence.block_table[first:used]
        self._coming[sequence] = known
        return known.blocks[:used]

    def end_step(self) -> None:
        """Forget the sequences that were not asked for since the last time."""
        self._known, self._coming = self._coming, {}
