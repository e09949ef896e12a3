"""From the messages or texts of a request to token ids, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from engine.errors import ContextLengthError, InvalidRequestError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer
from server.schemas.chat import ContentPart, Message, TemplateFields
from server.schemas.completion import Prompt
from server.text import ModelText

LONG_TEXT = 8192
"""Characters or tokens from which rendering, encoding and decoding move off the event loop."""

_CALL: Mapping[str, Any] = {"id": True, "type": True, "function": {"name": True, "arguments": True}}
"""What templates are shown of a tool call: the fields of the schema, not what else a client put there."""

T = TypeVar("T")


async def chat_prompt(
    messages: Sequence[Message],
    options: TemplateFields,
    text: ModelText,
    *,
    max_tokens: int,
    add_special_tokens: bool = False,
) -> list[int]:
    """Render a conversation and encode it; the template itself brings the special tokens.

    Raises:
        ContextLengthError: the rendered text is so long that it must have `max_tokens` tokens or more.
        InvalidRequestError: a message cannot be shown to this model, or the template refuses them (`TemplateError`).
    """
    template = text.template
    if template is None:
        raise InvalidRequestError(
            "This model has no chat template. Send a plain prompt to /v1/completions instead.",
            param="messages",
            code="no_chat_template",
        )
    conversation = [_for_template(message, f"messages[{index}]", template) for index, message in enumerate(messages)]

    def build() -> list[int]:
        continued = options.continue_final_message or False
        opened = options.add_generation_prompt
        rendered = template.render(
            conversation,
            add_generation_prompt=not continued if opened is None else opened,
            continue_final_message=continued,
            variables=options.chat_template_kwargs or {},
        )
        check_length(rendered, text.tokenizer, max_tokens, "messages")
        return text.tokenizer.encode(rendered, add_special_tokens=add_special_tokens)

    return await _off_loop_if_long(build, sum(_size(message) for message in conversation))


async def completion_prompts(
    prompt: Prompt, tokenizer: Tokenizer, *, max_tokens: int, add_special_tokens: bool
) -> list[list[int]]:
    """Token ids of each prompt, in order.

    Raises:
        ContextLengthError: a text is so long that it must have `max_tokens` tokens or more.
        InvalidRequestError: there is no prompt, or one is empty.
    """
    prompts = _as_list(prompt)
    if not prompts:
        raise InvalidRequestError("'prompt' must not be an empty list.", param="prompt")

    def build() -> list[list[int]]:
        for each in prompts:
            if isinstance(each, str):
                check_length(each, tokenizer, max_tokens, "prompt")
        return [
            tokenizer.encode(each, add_special_tokens=add_special_tokens) if isinstance(each, str) else each
            for each in prompts
        ]

    encoded = await _off_loop_if_long(build, sum(len(each) for each in prompts))
    for index, ids in enumerate(encoded):
        if not ids:
            where = "prompt" if len(encoded) == 1 else f"prompt[{index}]"
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


def _for_template(message: Message, path: str, template: ChatTemplate) -> dict[str, Any]:
    """The message as templates expect it: content one string, absent fields left out."""
    role = message.role
    if role == "developer" and "developer" not in template.source:
        role = "system"
    shown: dict[str, Any] = {"role": role, "content": _content(message, path)}
    if message.name is not None:
        shown["name"] = message.name
    if message.tool_calls:
        shown["tool_calls"] = [call.model_dump(include=_CALL, exclude_none=True) for call in message.tool_calls]
    if message.tool_call_id is not None:
        shown["tool_call_id"] = message.tool_call_id
    if message.reasoning_content is not None:
        shown["reasoning_content"] = message.reasoning_content
    return shown


def _content(message: Message, path: str) -> str:
    match message.content:
        case None if message.role == "assistant":
            return message.refusal or ""
        case None:
            raise InvalidRequestError(
                f"Missing required parameter: '{path}.content'.", param=f"{path}.content", code="missing_parameter"
            )
        case str():
            return message.content
        case parts:
            texts = [_part_text(part, f"{path}.content[{index}]") for index, part in enumerate(parts)]
            return "\n".join(texts)


def _part_text(part: ContentPart, path: str) -> str:
    if part.type not in ("text", "refusal"):
        raise InvalidRequestError(
            f"'{path}': this model takes text only, not parts of type '{part.type[:40]}'.",
            param=path,
            code="unsupported_content",
        )
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        param = f"{path}.{part.type}"
        raise InvalidRequestError(f"Missing required parameter: '{param}'.", param=param, code="missing_parameter")
    return text


def _size(message: dict[str, Any]) -> int:
    return len(message["content"]) + sum(len(str(call)) for call in message.get("tool_calls", ()))


async def _off_loop_if_long(build: Callable[[], T], length: int) -> T:
    return await asyncio.to_thread(build) if length >= LONG_TEXT else build()
