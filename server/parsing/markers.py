"""Finding markers in a text that grows: what may still become one is held back, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Split(NamedTuple):
    """A text cut at the first marker in it.

    `text` is certain to be no part of a marker. Without a marker, `rest` may still become one and has to be shown
    again with more behind it; with one, `rest` is what follows it.
    """

    text: str
    marker: str | None
    rest: str


def split_at_marker(text: str, markers: Sequence[str], *, ended: bool = False) -> Split:
    """Cut a text at its first marker; of several that begin at the same place the longest counts.

    Args:
        text: what has come and was not yet dealt with.
        markers: none of them empty.
        ended: nothing more will come, so that nothing is to be held back.
    """
    found = min(((text.find(each), -len(each), each) for each in markers if each in text), default=None)
    held = len(text) if ended else _held_from(text, markers)
    if found is not None and found[0] < held:
        place, _, marker = found
        return Split(text[:place], marker, text[place + len(marker) :])
    return Split(text[:held], None, text[held:])


def _held_from(text: str, markers: Sequence[str]) -> int:
    """Where the longest end of the text begins that is a marker's beginning, but not the whole of it."""
    longest = 0
    for marker in markers:
        for size in range(min(len(marker) - 1, len(text)), longest, -1):
            if text.endswith(marker[:size]):
                longest = size
                break
    return len(text) - longest
