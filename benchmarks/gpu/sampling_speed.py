"""Stage: how long sampling takes on this card, for each kind of request: a graph that is replayed, without the host."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence

from benchmarks.gpu.card import Card
from benchmarks.gpu.program import Program, Wanted
from benchmarks.gpu.sampling import KINDS, ROWS, SMALL, VOCABULARIES, answer, random_logits, step_of
from benchmarks.gpu.yardstick import LITTLE, Effort, captured, median_seconds
from benchmarks.report import Row


def measure_step(card: Card, effort: Effort, vocab: int, rows: int, kind: str) -> Row:
    """One step in which all rows are of one kind."""
    answers = [answer(kind, row, vocab) for row in range(rows)]
    step = step_of(card.runtime, vocab, answers, random_logits(rows, vocab))
    (time,) = median_seconds(card, effort, captured(card, [step.call] * effort.calls))
    return Row(f"sampling {rows} of {vocab}, {kind}: time", time * 1e6, "µs")


def measure(card: Card, effort: Effort, vocabularies: Sequence[int], all_rows: Sequence[int]) -> Iterator[Row]:
    """Every kind at every size."""
    for vocab, rows, kind in itertools.product(vocabularies, all_rows, KINDS):
        yield measure_step(card, effort, vocab, rows, kind)


def _rows(card: Card, wanted: Wanted) -> Iterator[Row]:
    return measure(card, LITTLE, (SMALL,), (2,)) if wanted.small else measure(card, Effort(), VOCABULARIES, ROWS)


PROGRAM = Program(__doc__, _rows, checks=False)

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
