"""The reasoning before the answer to one request: what the engine is told of it, and how it is read."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from engine.errors import InvalidRequestError
from engine.reasoning import ReasoningSpec
from engine.text.tokenizer import Tokenizer
from engine.types import SamplingParams
from server.chat.prompt import ChatPrompt
from server.chat.reasoning_fields import Shown, listens, reasoning_budget, reasoning_on, reasoning_shown
from server.parsing.base import Event, StreamParser, Thought
from server.parsing.reasoning import ReasoningFormat, ReasoningParser
from server.schemas.chat import ChatCompletionRequest
from server.text import ModelText


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How one request has a model reason.

    Attributes:
        markers: of the model.
        spec: for the engine.
        special: ids of the markers that are special tokens.
        in_content: leave it in the content.
    """

    markers: ReasoningFormat
    spec: ReasoningSpec
    special: tuple[int, ...]
    in_content: bool

    def sampling(self, without: SamplingParams) -> SamplingParams:
        """How to answer with it."""
        shown = (*without.shown_special_tokens, *self.special)
        return replace(without, reasoning=self.spec, shown_special_tokens=shown)

    def parser(self, answer: StreamParser) -> StreamParser:
        """Finds the reasoning in the text of a choice; the rest is read by `answer`."""
        return answer if self.in_content else ReasoningParser(self.markers, answer, begun=self.spec.begun)


class _Before(enum.Enum):
    """What a prompt has of the block of reasoning."""

    NOTHING = enum.auto()
    START = enum.auto()  # the answer begins within the block
    END = enum.auto()  # it is closed; a model may still write a marker, which is no content
    ANSWER = enum.auto()  # and a part of what follows it, so that no block can come any more


class WithoutThoughts:
    """A parser whose thoughts are dropped.

    Args:
        parser: the parser.
    """

    def __init__(self, parser: StreamParser) -> None:
        self._parser = parser

    def feed(self, text: str) -> list[Event]:
        """As `StreamParser.feed`."""
        return [event for event in self._parser.feed(text) if not isinstance(event, Thought)]

    def finish(self) -> list[Event]:
        """As `StreamParser.finish`."""
        return [event for event in self._parser.finish() if not isinstance(event, Thought)]


def wanted_reasoning(
    body: ChatCompletionRequest,
    prompt: ChatPrompt | None,
    text: ModelText,
    budget_message: str = "",
) -> Reasoning | None:
    """How to answer a request; None if there can be no reasoning, or none that is known.

    Args:
        body: the request.
        prompt: made of it; None if its end is left out.
        text: of the model.
        budget_message: what the model is made to say when its budget is used up.

    Raises:
        InvalidRequestError: fields contradict each other, or would have no effect on this model.
    """
    on, budget, markers = reasoning_on(body), reasoning_budget(body), text.reasoning
    if markers is None:
        heard = text.capabilities is not None and listens(text.capabilities)
        for wish, granted in ((budget, False), (on, heard)):
            if wish is not None and wish.value and not granted:
                raise _cannot_reason(wish.field)
        return None
    before = _Before.NOTHING if prompt is None else _before(prompt, markers)
    if before is _Before.ANSWER:
        return None
    tokenizer = text.tokenizer
    start, end = _ids(markers.start, tokenizer), _ids(markers.end, tokenizer)
    most = 0 if on is not None and not on.value else None if budget is None else budget.value
    spec = ReasoningSpec(
        markers.start,
        markers.end,
        begun=before is _Before.START,
        # where a grammar waits, a block that the prompt has closed is not to be opened again
        start_token_ids=() if before is _Before.END else start,
        budget=most,
        closing_token_ids=(*tokenizer.encode(f"{budget_message}\n", add_special_tokens=False), *end),
    )
    special = tuple(ids[0] for ids in (start, end) if len(ids) == 1 and ids[0] in tokenizer.special_ids)
    return Reasoning(markers, spec, special, in_content=reasoning_shown(body) is Shown.IN_CONTENT)


def _cannot_reason(field: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"'{field}': this model is not known to reason, so that this would have no effect. Leave it out; if the model "
        "does reason, the server's setting 'reasoning_format' can say how.",
        param=field,
        code="unsupported_parameter",
    )


def _before(prompt: ChatPrompt, markers: ReasoningFormat) -> _Before:
    continued = prompt.continued.strip()
    if continued:
        reasons = continued.startswith(markers.start) and markers.end not in continued
        return _Before.START if reasons else _Before.ANSWER
    text = prompt.text.rstrip()
    if text.endswith(markers.end):
        return _Before.END
    return _Before.START if text.endswith(markers.start) else _Before.NOTHING


def _ids(marker: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """How a marker is written: as a token of its own where there is one."""
    whole = tokenizer.token_to_id(marker)
    return tuple(tokenizer.encode(marker, add_special_tokens=False)) if whole is None else (whole,)
