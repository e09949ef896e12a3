"""The prompts a request body asks for: one way to them, for answers, for counting and for looking at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.errors import InvalidRequestError
from engine.text.fill_in_middle import FillInMiddle, fill_in_middle
from engine.text.tokenizer import Tokenizer
from server.chat.prompt import ChatPrompt, chat_prompt, completion_prompts, decode_tokens
from server.chat.shown_prompt import PromptView
from server.chat.tool_use import wanted_tools
from server.config import ServerConfig
from server.models.served import ServedModel
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.schemas.embeddings import EmbeddingRequest
from server.truncation import HEADER, cut, room_for_prompt, wanted_truncation

CONTEXTS = 8
"""What is only counted, shown or cut may be this many times as long as the model's context, so that a client can see
how much to cut."""

MOST_INPUTS = 2048
"""Of one request for vectors, as at OpenAI."""


class RequestPrompts(NamedTuple):
    """The prompts of one request.

    Attributes:
        token_ids: of each prompt.
        text: of the only prompt, where a template wrote it and all of it is sent.
        rendered: what a template wrote, unless its end is not sent.
        truncated_tokens: how many were left out, of all prompts; None where none might be.
        end_token_ids: with which the model ends its answer, besides those it always may.
    """

    token_ids: list[list[int]]
    text: str | None = None
    rendered: ChatPrompt | None = None
    truncated_tokens: int | None = None
    end_token_ids: tuple[int, ...] = ()

    @property
    def headers(self) -> Mapping[str, str]:
        """What the answer must tell about them."""
        return {} if self.truncated_tokens is None else {HEADER: str(self.truncated_tokens)}


async def prompt_of_chat(
    body: ChatCompletionRequest, model: ServedModel, config: ServerConfig, *, contexts: int = 1
) -> RequestPrompts:
    """The prompt of a conversation.

    Args:
        body: the request.
        model: whose template renders it.
        config: settings of the HTTP side.
        contexts: how many times as long as the model's context it may be, roughly; if it may be cut, `CONTEXTS` times.

    Raises:
        ContextLengthError, InvalidRequestError: as `chat_prompt`, and as `wanted_truncation`.
    """
    contexts = contexts if wanted_truncation(body) is None else CONTEXTS
    tools = wanted_tools(body)
    prompt = await chat_prompt(
        body.messages,
        body,
        model.text,
        tools=() if tools is None else tools.definitions,
        max_tokens=contexts * model.limits.max_model_len,
        repair_roles=config.repair_roles,
    )
    return _cut(body, RequestPrompts([prompt.token_ids], prompt.text, prompt), model)


async def prompts_of_completion(body: CompletionRequest, model: ServedModel, *, contexts: int = 1) -> RequestPrompts:
    """The prompts to be continued, or with a suffix those that have the model fill in what stands before it.

    Args:
        body: the request.
        model: whose tokenizer encodes them.
        contexts: as in `prompt_of_chat`.

    Raises:
        ContextLengthError, InvalidRequestError: as `completion_prompts`, and as `wanted_truncation`; or there is a
            suffix and the model was not taught to fill gaps.
    """
    tokenizer = model.text.tokenizer
    gap = _gap(body, tokenizer)
    contexts = contexts if wanted_truncation(body) is None else CONTEXTS
    begins = True if body.add_special_tokens is None else body.add_special_tokens
    prompts = await completion_prompts(
        body.prompt,
        tokenizer,
        max_tokens=contexts * model.limits.max_model_len,
        add_special_tokens=begins and gap is None,
        may_be_empty=gap is not None,
    )
    if gap is None:
        return _cut(body, RequestPrompts(prompts), model)
    begin = [tokenizer.bos_token_id] if begins and tokenizer.adds_bos and tokenizer.bos_token_id is not None else []
    filled = [gap.prompt(prompt, body.suffix or "", begin) for prompt in prompts]
    return RequestPrompts(filled, end_token_ids=gap.end_token_ids)


async def prompts_of_embedding(body: EmbeddingRequest, model: ServedModel) -> RequestPrompts:
    """The inputs to be made into vectors.

    Args:
        body: the request.
        model: whose tokenizer encodes them.

    Raises:
        ContextLengthError, InvalidRequestError: as `completion_prompts`, and as `wanted_truncation`; or there are too
            many, or an empty text.
    """
    texts = [body.input] if isinstance(body.input, str) else body.input
    if len(texts) > MOST_INPUTS and not isinstance(texts[0], int):
        raise InvalidRequestError(
            f"There are {len(texts)} inputs; one request may have at most {MOST_INPUTS}.", param="input"
        )
    for index, text in enumerate(texts):
        if text == "":
            where = "input" if isinstance(body.input, str) else f"input[{index}]"
            raise InvalidRequestError(f"'{where}' must not be an empty string.", param=where)
    contexts = 1 if wanted_truncation(body) is None else CONTEXTS
    inputs = await completion_prompts(
        body.input,
        model.text.tokenizer,
        max_tokens=contexts * model.limits.max_model_len + 1,  # no room is needed for an answer
        add_special_tokens=True if body.add_special_tokens is None else body.add_special_tokens,
        param="input",
    )
    return _cut(body, RequestPrompts(inputs), model)


def _gap(body: CompletionRequest, tokenizer: Tokenizer) -> FillInMiddle | None:
    """How the model fills the gap before the suffix, if there is one."""
    if not body.suffix:
        return None
    gap = fill_in_middle(tokenizer)
    if gap is None:
        raise InvalidRequestError(
            "'suffix' is not supported by this model: its tokenizer has no tokens for filling gaps. Leave it out.",
            param="suffix",
            code="unsupported_parameter",
        )
    if wanted_truncation(body) is not None:
        raise InvalidRequestError("A prompt with a 'suffix' cannot be truncated.", param="suffix")
    return gap


def _cut(
    body: ChatCompletionRequest | CompletionRequest | EmbeddingRequest, prompts: RequestPrompts, model: ServedModel
) -> RequestPrompts:
    wanted = wanted_truncation(body)
    if wanted is None:
        return prompts
    room = room_for_prompt(wanted, model.limits, body.answer_tokens)
    pieces = [cut(each, wanted.side, room, model.text.tokenizer.bos_token_id) for each in prompts.token_ids]
    left_out = sum(piece.left_out for piece in pieces)
    text = None if left_out else prompts.text
    rendered = None if left_out and wanted.side == "right" else prompts.rendered
    return RequestPrompts([piece.token_ids for piece in pieces], text, rendered, left_out)


async def views_of_completion(
    body: CompletionRequest, prompts: RequestPrompts, model: ServedModel
) -> Sequence[PromptView]:
    """What the answer is to show of each prompt: a text as it was sent, unless some of it has been cut off.

    Args:
        body: the request.
        prompts: what was made of it.
        model: whose tokenizer spells other prompts.

    Raises:
        InvalidRequestError: a prompt with a suffix is to be shown, whose tokens stand in another order than the text.
    """
    if not body.echo:
        return [PromptView(listed=body.prompt_logprobs)] * len(prompts.token_ids)
    if body.suffix:
        raise InvalidRequestError("'echo' does not go with 'suffix'.", param="echo")
    sent = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    tokenizer = model.text.tokenizer
    skipped = True if body.skip_special_tokens is None else body.skip_special_tokens
    views = []
    for index, ids in enumerate(prompts.token_ids):
        text = None if prompts.truncated_tokens or not isinstance(sent[0], str) else sent[index]
        if not isinstance(text, str):
            text = await decode_tokens(ids, tokenizer, skip_special_tokens=skipped)
        views.append(PromptView(text, tokenizer.special_ids, placed=body.logprobs, listed=body.prompt_logprobs))
    return views
