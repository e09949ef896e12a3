"""Which slot of the device's table of counts belongs to which sequence, and whether what stands there is still true."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from engine.errors import KernelArgumentError
from engine.scheduling.sequence import Sequence

_Key = tuple[int, str, int, int]


@dataclass(slots=True)
class _Slot:
    """What the device has counted: `tokens` tokens of this epoch of a sequence, as of the end of the latest step."""

    index: int
    epoch: int
    tokens: int


class CountSlots:
    """Hands out slots to sequences with penalties; whoever has not been there for longest loses its own.

    The device counts each token it samples itself, so a slot stays true while a sequence samples token after token.
    Where it has been taken back (a step failed, the sequence was preempted), the number of its tokens does not go on
    where the slot left off, and the slot has to be filled anew.

    Args:
        count: slots there are; at least as many as sequences in a step.
    """

    def __init__(self, count: int) -> None:
        self._free = list(range(count))[::-1]
        self._slots: OrderedDict[_Key, _Slot] = OrderedDict()  # the one used longest ago first

    def take(self, sequence: Sequence) -> tuple[int, bool]:
        """The slot of a sequence that is about to sample a token, and whether it has to be filled first.

        Raises:
            KernelArgumentError: it has to be filled, and the sequence has tokens that the host does not know.
        """
        key = _key(sequence)
        slot = self._slots.get(key)
        if slot is None:
            index = self._free.pop() if self._free else self._slots.popitem(last=False)[1].index
            slot = self._slots[key] = _Slot(index, -1, -1)
        self._slots.move_to_end(key)
        stale = (slot.epoch, slot.tokens) != (sequence.epoch, sequence.num_tokens)
        if stale and sequence.num_in_flight:
            raise KernelArgumentError(
                f"Tokens of the request '{sequence.request.request_id}' cannot be counted while some are in flight."
            )
        slot.epoch, slot.tokens = sequence.epoch, sequence.num_tokens + 1
        return slot.index, stale


def _key(sequence: Sequence) -> _Key:
    """What tells a sequence from all others, earlier ones of the same name included."""
    request = sequence.request
    return sequence.arrival, request.request_id, sequence.choice, sequence.seed
