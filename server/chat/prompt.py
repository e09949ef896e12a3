"""From the messages or texts of a request to token ids, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from engine.errors import ContextLengthError, InvalidRequestError, TemplateError
from engine.text.template_capabilities import CallForm
from engine.text.tokenizer import Tokenizer
from server.chat.messages import template_messages
from server.chat.reasoning_fields import template_switches
from server.chat.tool_history import arguments_of_no_object
from server.schemas.chat import Message, TemplateFields
from server.schemas.completion import Prompt
from server.text import ModelText

LONG_TEXT = 8192
"""Characters or tokens from which rendering, encoding and decoding move off the event loop."""

T = TypeVar("T")


class ChatPrompt(NamedTuple):
    """A rendered conversation; `continued` is the final message where the answer goes on with it."""

    text: str
    token_ids: list[int]
    continued: str = ""


async def chat_prompt(
    messages: Sequence[Message],
    options: TemplateFields,
    text: ModelText,
    *,
    max_tokens: int,
    repair_roles: bool,
    tools: Sequence[Mapping[str, Any]] = (),
    add_special_tokens: bool = False,
) -> ChatPrompt:
    """Render a conversation and encode it; the template itself brings the special tokens.

    Args:
        messages: as the client sent them.
        tools: definitions of those that are offered.
        options: what else steers the template.
        text: of the model.
        max_tokens: what the prompt must stay below.
        repair_roles: as in `template_messages`.
        add_special_tokens: as in `Tokenizer.encode`.

    Raises:
        ContextLengthError: the rendered text is so long that it must have `max_tokens` tokens or more.
        InvalidRequestError: a message cannot be shown to this model, or the template refuses them (`TemplateError`).
    """
    template, capabilities = text.template, text.capabilities
    if template is None or capabilities is None:
        raise InvalidRequestError(
            "This model has no chat template. Send a plain prompt to /v1/completions instead.",
            param="messages",
            code="no_chat_template",
        )
    native = tools if text.shows_tools else ()
    conversation = template_messages(messages, capabilities, repair=repair_roles, tools=() if native else tools)

    def build() -> ChatPrompt:
        continued = options.continue_final_message or False
        opened = options.add_generation_prompt
        rendered = template.render(
            conversation,
            tools=native or None,
            add_generation_prompt=not continued if opened is None else opened,
            continue_final_message=continued,
            variables={**template_switches(options, capabilities), **(options.chat_template_kwargs or {})},
            decode_arguments=capabilities.call_arguments is CallForm.OBJECT,
        )
        check_length(rendered, text.tokenizer, max_tokens, "messages")
        token_ids = text.tokenizer.encode(rendered, add_special_tokens=add_special_tokens)
        return ChatPrompt(rendered, token_ids, _text(conversation[-1]) if continued else "")

    size = sum(_size(message) for message in conversation) + sum(len(str(tool)) for tool in tools)
    try:
        return await _off_loop_if_long(build, size)
    except TemplateError as error:
        raise _naming_arguments(error, messages) from None


async def completion_prompts(
    prompt: Prompt,
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    add_special_tokens: bool,
    may_be_empty: bool = False,
    param: str = "prompt",
) -> list[list[int]]:
    """Token ids of each prompt, in order.

    Args:
        prompt: one or several.
        tokenizer: encodes texts.
        max_tokens: what a text must stay below.
        add_special_tokens: as in `Tokenizer.encode`.
        may_be_empty: whether a prompt may have no tokens.
        param: field they come from.

    Raises:
        ContextLengthError: a text is so long that it must have `max_tokens` tokens or more.
        InvalidRequestError: there is no prompt, or one is empty that must not be.
    """
    prompts = _as_list(prompt)
    if not prompts:
        raise InvalidRequestError(f"'{param}' must not be an empty list.", param=param)

    def build() -> list[list[int]]:
        for each in prompts:
            if isinstance(each, str):
                check_length(each, tokenizer, max_tokens, param)
        return [
            tokenizer.encode(each, add_special_tokens=add_special_tokens) if isinstance(each, str) else each
            for each in prompts
        ]

    encoded = await _off_loop_if_long(build, sum(len(each) for each in prompts))
    for index, ids in enumerate(encoded):
        if not ids and not may_be_empty:
            where = param if len(encoded) == 1 else f"{param}[{index}]"
            raise InvalidRequestError(f"'{where}' is empty; it must have at least one token.", param=where)
    return encoded


async def encode_text(text: str, tokenizer: Tokenizer, *, max_tokens: int, add_special_tokens: bool) -> list[int]:
    """Token ids of one text.

    Raises:
        ContextLengthError: the text is so long that it must have `max_tokens` tokens or more.
        InvalidRequestError: the text is not valid Unicode.
    """
    check_length(text, tokenizer, max_tokens, "prompt")
    return await _off_loop_if_long(lambda: tokenizer.encode(text, add_special_tokens=add_special_tokens), len(text))


def check_length(text: str, tokenizer: Tokenizer, max_tokens: int, param: str) -> None:
    """Refuse a text that is far too long, before encoding it takes a hundred times its size in memory.

    Raises:
        ContextLengthError: it must have `max_tokens` tokens or more.
    """
    fewest = tokenizer.fewest_tokens(text)
    if fewest >= max_tokens:
        raise ContextLengthError(fewest, max_tokens, param=param, counted=False)


async def decode_tokens(ids: Sequence[int], tokenizer: Tokenizer, *, skip_special_tokens: bool) -> str:
    """The text of token ids.

    Raises:
        InvalidRequestError: an id is too large to be one.
    """
    return await _off_loop_if_long(lambda: tokenizer.decode(ids, skip_special_tokens=skip_special_tokens), len(ids))


def _as_list(prompt: Prompt) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    ids = [each for each in prompt if isinstance(each, int)]
    if ids:
        return [ids]
    return [each for each in prompt if not isinstance(each, int)]


def _naming_arguments(error: TemplateError, messages: Sequence[Message]) -> InvalidRequestError:
    """The error; with what may well be its cause, where an earlier call has arguments that a template cannot read."""
    place = arguments_of_no_object(messages)
    if place is None:
        return error
    return InvalidRequestError(
        f"{error.message} Mind that '{place}' is not the text of a JSON object, which this template may need.",
        param=place,
        code=error.code,
    )


def _text(message: Mapping[str, Any]) -> str:
    """The content as one text."""
    content = message["content"] or ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _size(message: Mapping[str, Any]) -> int:
    """About as many characters as the message makes."""
    return len(_text(message)) + sum(len(str(call)) for call in message.get("tool_calls", ()))


async def _off_loop_if_long(build: Callable[[], T], length: int) -> T:
    return await asyncio.to_thread(build) if length >= LONG_TEXT else build()
