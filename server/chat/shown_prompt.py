"""What an answer shows of its prompt: its text in front of the answer's (`echo`), and how likely its tokens were."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.text.detokenizer import Utf8Assembler
from engine.types import PromptLogprob
from server.translate import PlacedPromptLogprob


class ShownPrompt(NamedTuple):
    """What is to be shown before the first text of a choice."""

    text: str
    logprobs: tuple[PlacedPromptLogprob, ...]  # of the prompt's tokens, to stand before those of the answer
    listed: tuple[PromptLogprob, ...] | None  # for the field `prompt_logprobs`


@dataclass(frozen=True, slots=True)
class PromptView:
    """What the answer to one prompt is to show of it.

    Attributes:
        text: of the prompt, if it is echoed.
        hidden: ids of tokens that may not be in the text.
        placed: alternatives for each token of an echoed prompt; None for no log-probabilities there.
        listed: alternatives in `prompt_logprobs`; None for no such field.
    """

    text: str = ""
    hidden: Collection[int] = ()
    placed: int | None = None
    listed: int | None = None

    def show(self, told: Sequence[PromptLogprob] | None) -> ShownPrompt | None:
        """What to show, given what the engine says of the prompt's tokens; None for nothing."""
        placed: tuple[PlacedPromptLogprob, ...] = ()
        if told is not None and self.placed is not None:
            offsets = place(told, self.text, self.hidden)
            placed = tuple(map(PlacedPromptLogprob, shortened(told, self.placed), offsets))
        listed = tuple(shortened(told, self.listed)) if told is not None and self.listed is not None else None
        return ShownPrompt(self.text, placed, listed) if self.text or placed or listed is not None else None


def shortened(told: Sequence[PromptLogprob], alternatives: int) -> list[PromptLogprob]:
    """The same with fewer alternatives."""
    return [each._replace(top=each.top[:alternatives]) for each in told]


def place(tokens: Sequence[PromptLogprob], text: str, hidden: Collection[int]) -> list[int]:
    """Where in a text each of its tokens begins, in characters.

    Some tokens have no place of their own: what a tokenizer adds around a text (BOS), or the space it puts before it.
    Where it has changed the text (capitals, accents), lengths alone are counted.

    Args:
        tokens: those of the text.
        text: as it was sent.
        hidden: ids of tokens that may not be in it.
    """
    offsets = []
    position = 0
    characters = Utf8Assembler()
    for token in tokens:
        offsets.append(position)
        piece = characters.feed(token.data)
        if not text.startswith(piece, position):
            if token.token_id in hidden:
                continue
            if position == 0 and piece.startswith(" "):
                piece = piece[1:]
        position = min(position + len(piece), len(text))
    return offsets
