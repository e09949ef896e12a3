"""Which choices are the likeliest."""

from __future__ import annotations

from engine.types import TokenLogprob
from server.chat.best_of import best_of
from server.chat.pieces import WholeChoice
from server.translate import PlacedLogprob


def choice(*entries: tuple[bytes, float]) -> WholeChoice:
    return WholeChoice(logprobs=[PlacedLogprob(TokenLogprob(1, data, logprob, ()), 0) for data, logprob in entries])


def test_the_token_that_ends_a_choice_does_not_count() -> None:
    """It is told beside an echo only, and what is returned must not depend on that."""
    likelier, other = choice((b"a", -1.0), (b"", -9.0)), choice((b"b", -2.0), (b"", -0.1))
    assert best_of([other, likelier], candidates=2, keep=1) == [likelier]
