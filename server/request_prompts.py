"""The prompts a request body asks for: one way to them, for answers, for counting and for looking at them."""

from __future__ import annotations

from server.chat.prompt import ChatPrompt, chat_prompt, completion_prompts
from server.config import ServerConfig
from server.models.served import ServedModel
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest

CONTEXTS = 8
"""What is only counted or shown may be this many times as long as the model's context, so that a client can see how
much to cut."""


async def prompt_of_chat(
    body: ChatCompletionRequest, model: ServedModel, config: ServerConfig, *, contexts: int = 1
) -> ChatPrompt:
    """The prompt of a conversation.

    Args:
        body: the request.
        model: whose template renders it.
        config: settings of the HTTP side.
        contexts: how many times as long as the model's context it may be, roughly.

    Raises:
        ContextLengthError, InvalidRequestError: as `chat_prompt`.
    """
    return await chat_prompt(
        body.messages,
        body,
        model.text,
        max_tokens=contexts * model.limits.max_model_len,
        repair_roles=config.repair_roles,
    )


async def prompts_of_completion(body: CompletionRequest, model: ServedModel, *, contexts: int = 1) -> list[list[int]]:
    """Token ids of each prompt to be continued.

    Args:
        body: the request.
        model: whose tokenizer encodes them.
        contexts: as in `prompt_of_chat`.

    Raises:
        ContextLengthError, InvalidRequestError: as `completion_prompts`.
    """
    return await completion_prompts(
        body.prompt,
        model.text.tokenizer,
        max_tokens=contexts * model.limits.max_model_len,
        add_special_tokens=True if body.add_special_tokens is None else body.add_special_tokens,
    )
