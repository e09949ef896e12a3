"""How a conversation is put to a model loaded here, and its answer read: as the server does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.errors import InvalidRequestError
from engine.text.chat_template import Message
from engine.types import SamplingParams
from quire.answers import AnswerPiece
from server.chat.prompt import chat_prompt
from server.chat.reasoning import wanted_reasoning
from server.chat.tool_calling import tool_calling
from server.parsing.base import Content, Event, PlainParser, StreamParser, Thought
from server.schemas.chat import ChatCompletionRequest
from server.text import ModelText


class LocalChat(NamedTuple):
    """A conversation, ready for the engine.

    Attributes:
        token_ids: the prompt.
        sampling: how to answer it.
        parser: tells the thoughts in the answer's text.
    """

    token_ids: list[int]
    sampling: SamplingParams
    parser: StreamParser


async def local_chat(
    messages: Sequence[Message], text: ModelText, sampling: SamplingParams, max_model_len: int
) -> LocalChat:
    """Prepare a conversation.

    Args:
        messages: in the form of the chat API; all content is text.
        text: of the model.
        sampling: how answers are sampled.
        max_model_len: context of the model, in tokens.

    Raises:
        InvalidRequestError: the model cannot be shown the messages.
    """
    try:
        "".join(each["content"] for each in messages).encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("The message is not valid Unicode: it has a lone surrogate.") from None
    body = ChatCompletionRequest.model_validate({"messages": [dict(each) for each in messages]})
    prompt = await chat_prompt(body.messages, body, text, max_tokens=max_model_len, repair_roles=True)
    parser: StreamParser = PlainParser()
    framing = tool_calling(body, text)
    if framing is not None:
        sampling, parser = await framing.sampling(sampling, None, _unchecked), framing.parser()
    reasoning = wanted_reasoning(body, prompt, text)
    if reasoning is not None:
        sampling, parser = reasoning.sampling(sampling), reasoning.parser(parser)
    return LocalChat(prompt.token_ids, sampling, parser)


def answer_piece(events: Iterable[Event], finish_reason: str | None = None) -> AnswerPiece:
    """What a parser found, as a piece of an answer; without tools there are no calls to show."""
    found = list(events)
    return AnswerPiece(
        "".join(each.text for each in found if isinstance(each, Content)),
        finish_reason,
        "".join(each.text for each in found if isinstance(each, Thought)),
    )


async def _unchecked(_grammar: object) -> None:
    """Without tools there is no grammar."""
