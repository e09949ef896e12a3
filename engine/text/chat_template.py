"""Conversations to prompts, by the template that came with the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.errors import InvalidRequestError, TemplateError, TokenizerError
from engine.model_files import read_json_object, read_text
from engine.text.special_tokens import load_special_tokens
from engine.text.template_environment import compile_template, run_template

Message = Mapping[str, Any]

_DEFAULT = "default"
_TOOL_USE = "tool_use"
_RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
_MARK = "\ue000END-OF-FINAL-MESSAGE\ue001 "
"""Stands behind the final message to find its end in the rendering. The space tells whether the template trims."""


class ChatTemplate:
    """A model's chat template, compiled.

    Args:
        source: the template.
        bos_token: given to the template; None leaves it undefined, which renders as nothing.
        eos_token: likewise.
        special_tokens: further named special tokens for the template (`pad_token`, ...).
        named: further templates by name; `tool_use` is taken when a request has tools.
        clock: what the template's `strftime_now` reads.

    Attributes:
        source: the template.
        tool_source: the one that is taken when a request has tools.

    Raises:
        TemplateError: a template is not valid; names the line.
    """

    def __init__(
        self,
        source: str,
        bos_token: str | None = None,
        eos_token: str | None = None,
        *,
        special_tokens: Mapping[str, str] | None = None,
        named: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.source = source
        self.tool_source = (named or {}).get(_TOOL_USE, source)
        tokens = {**(special_tokens or {}), "bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}
        self._templates = {
            name: compile_template(text, clock) for name, text in {**(named or {}), _DEFAULT: source}.items()
        }

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, object] | None = None,
        decode_arguments: bool = True,
    ) -> str:
        """The prompt for a conversation.

        Args:
            messages: in the form of the chat API.
            tools: definitions in the form of the chat API.
            documents: for templates that take some, objects with `title` and `text`.
            add_generation_prompt: end with what opens an answer.
            continue_final_message: end inside the final message instead, so that the model continues it.
            variables: further values for the template (`enable_thinking`, ...); they override special tokens.
            decode_arguments: give the arguments of tool calls, JSON strings in the chat API, to the template as the
                objects most expect.

        Raises:
            TemplateError: the template refuses these messages or fails; names its line.
            InvalidRequestError: the arguments contradict each other.
        """
        variables = variables or {}
        for name in sorted(_RESERVED & variables.keys()):
            raise InvalidRequestError(
                f"'{name}' cannot be set through template variables; use the field of its own.",
                param="chat_template_kwargs",
            )
        if continue_final_message and add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message and add_generation_prompt exclude each other; set one of them to false.",
                param="continue_final_message",
            )
        conversation = [_with_decoded_arguments(message) if decode_arguments else dict(message) for message in messages]
        final = ""
        if continue_final_message:
            conversation, final = _marked(conversation)
        template = self._templates.get(_TOOL_USE) if tools else None
        text = run_template(
            template or self._templates[_DEFAULT],
            {
                **self._tokens,
                **variables,
                "messages": conversation,
                "tools": tools,
                "documents": documents,
                "add_generation_prompt": add_generation_prompt,
            },
        )
        return _cut_at_mark(text, final) if continue_final_message else text


def load_chat_template(directory: Path) -> ChatTemplate | None:
    """The chat template in a model directory, or None if it has none.

    `chat_template.jinja` wins over the template in tokenizer_config.json, which is one text or a list of named ones;
    `additional_chat_templates/NAME.jinja` are further named ones.

    Raises:
        TokenizerError: a file is corrupt, or there are named templates but no default one.
        TemplateError: a template is not valid; names the line.
    """
    config = read_json_object(directory / "tokenizer_config.json", TokenizerError) or {}
    templates = _templates_of_config(config.get("chat_template"))
    for path in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = read_text(path, TokenizerError) or ""
    source = read_text(directory / "chat_template.jinja", TokenizerError)
    if source is not None:
        templates[_DEFAULT] = source
    if not templates:
        return None
    if _DEFAULT not in templates:
        raise TokenizerError(f"{directory} has chat templates ({', '.join(templates)}) but none named '{_DEFAULT}'.")
    tokens = load_special_tokens(directory)
    return ChatTemplate(
        templates.pop(_DEFAULT),
        tokens.get("bos_token"),
        tokens.get("eos_token"),
        special_tokens=tokens,
        named=templates,
    )


def _templates_of_config(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {_DEFAULT: value}
    if isinstance(value, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
        for entry in value
    ):
        return {entry["name"]: entry["template"] for entry in value}
    raise TokenizerError(
        "chat_template in tokenizer_config.json must be a string or a list of objects with `name` and `template`."
    )


def _with_decoded_arguments(message: Message) -> dict[str, Any]:
    """The message with the arguments of its tool calls as objects; what is not a JSON object stays a string."""
    copy = dict(message)
    if isinstance(calls := message.get("tool_calls"), Sequence):
        copy["tool_calls"] = [_with_decoded_call(call) for call in calls]
    return copy


def _with_decoded_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _marked(conversation: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The conversation with a mark behind the text of its final message, and that text."""
    content = conversation[-1].get("content") if conversation else None
    if isinstance(content, str):
        return [*conversation[:-1], {**conversation[-1], "content": content + _MARK}], content
    if isinstance(content, Sequence):
        for index, part in reversed(list(enumerate(content))):
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                parts = [*content[:index], {**part, "text": part["text"] + _MARK}, *content[index + 1 :]]
                return [*conversation[:-1], {**conversation[-1], "content": parts}], part["text"]
    raise InvalidRequestError(
        "continue_final_message needs a final message with text to continue.", param="continue_final_message"
    )


def _cut_at_mark(text: str, final: str) -> str:
    """What stands before the mark; without trailing space if the template trims what it writes."""
    position = text.rfind(_MARK.strip())
    if position < 0 or final.strip() not in text:
        raise TemplateError(
            "The chat template does not show the final message as it is, so it cannot be continued; "
            "send the request without continue_final_message."
        )
    before = text[:position]
    return before if text.startswith(_MARK, position) else before.rstrip()
