from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.types import TokenLogprob
from server.chat.best_of import best_of
from server.chat.pieces import WholeChoice
from server.translate import PlacedLogprob

logprobs = st.lists(st.floats(-20, 0), max_size=5)


def choice(*values: float) -> WholeChoice:
    placed = [PlacedLogprob(TokenLogprob(0, b"", value, ()), 0) for value in values]
    return WholeChoice(logprobs=placed)


def test_length_does_not_count_and_an_empty_choice_is_the_worst() -> None:
    empty, long, short, unlikely = choice(), choice(-1.0, -1.0, -1.0), choice(-1.5), choice(-9.0)
    assert best_of([empty, unlikely, short, long], 4, 4) == [long, short, unlikely, empty]


def test_each_prompt_has_its_own_best() -> None:
    good, bad, worse = choice(-0.5), choice(-2.0), choice(-3.0)
    assert best_of([bad, good, worse, bad], 2, 1) == [good, bad]


@given(st.lists(logprobs, min_size=1, max_size=6), st.data())
def test_what_is_left_out_is_no_better_than_what_is_kept(values: list[list[float]], data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, len(values)))
    choices = [choice(*each) for each in values]
    kept = best_of(choices, len(choices), keep)
    assert len(kept) == keep

    def mean(each: WholeChoice) -> float:
        return sum(p.entry.logprob for p in each.logprobs) / len(each.logprobs) if each.logprobs else -1e9

    dropped = [each for each in choices if not any(each is other for other in kept)]
    assert all(mean(each) <= min(map(mean, kept)) + 1e-9 for each in dropped)
