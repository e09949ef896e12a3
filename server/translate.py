"""Between the words of the OpenAI API and those of the engine: the only place that knows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from engine.admission import RequestLimits
from engine.errors import InvalidRequestError, RequestFailedError
from engine.text.defaults import GenerationDefaults
from engine.types import Finish, FinishReason, PromptLogprob, SamplingParams, TokenLogprob
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.structured import wanted_grammar

GenerationRequestBody = ChatCompletionRequest | CompletionRequest

T = TypeVar("T")


class PlacedLogprob(NamedTuple):
    """A token's log-probability and the offset in characters at which the token begins in the answer's text."""

    entry: TokenLogprob
    offset: int


class PlacedPromptLogprob(NamedTuple):
    """The same for a token of the prompt, in the prompt's text."""

    entry: PromptLogprob
    offset: int


def chat_sampling(body: ChatCompletionRequest, defaults: GenerationDefaults, model: RequestLimits) -> SamplingParams:
    """How to answer a chat request; the answer may run to the end of the context unless something limits it.

    Raises:
        InvalidRequestError: a value is out of range.
    """
    if body.best_of is not None and body.best_of != _or(body.n, 1):
        raise InvalidRequestError(
            "'best_of' is not supported for chats unless it equals 'n'. Leave it out.",
            param="best_of",
            code="unsupported_parameter",
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    max_tokens = defaults.max_tokens if body.answer_tokens is None else body.answer_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return _sampling(
        body,
        defaults,
        model,
        n=_or(body.n, 1),
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=body.prompt_logprobs,
    )


def completion_sampling(body: CompletionRequest, defaults: GenerationDefaults, model: RequestLimits) -> SamplingParams:
    """How to continue a prompt.

    Raises:
        InvalidRequestError: a value is out of range.
    """
    n, candidates = _or(body.n, 1), body.candidates
    if body.best_of is not None and body.best_of < n:
        raise InvalidRequestError(f"'best_of' must be at least 'n', which is {n}.", param="best_of")
    if body.stream and candidates > n:
        raise InvalidRequestError(
            "'best_of' above 'n' cannot be streamed, since which choices are the best is known at their end.",
            param="best_of",
        )
    logprobs = 0 if candidates > n and body.logprobs is None else body.logprobs
    echoed = body.logprobs if body.echo else None
    wanted = [count for count in (echoed, body.prompt_logprobs) if count is not None]
    return _sampling(
        body,
        defaults,
        model,
        n=candidates,
        max_tokens=body.answer_tokens,
        logprobs=logprobs,
        prompt_logprobs=max(wanted, default=None),
    )


def _sampling(
    body: GenerationRequestBody,
    defaults: GenerationDefaults,
    model: RequestLimits,
    *,
    n: int,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    _check_together(body)
    wanted = wanted_grammar(body)
    return SamplingParams(
        n=n,
        max_tokens=max_tokens,
        min_tokens=_or(body.min_tokens, 0),
        temperature=_or(body.temperature, _or(defaults.temperature, 1.0)),
        top_k=min(_or(body.top_k, _or(defaults.top_k, 0)), model.vocab_size),
        top_p=_or(body.top_p, _or(defaults.top_p, 1.0)),
        min_p=_or(body.min_p, _or(defaults.min_p, 0.0)),
        repetition_penalty=_or(body.repetition_penalty, _or(defaults.repetition_penalty, 1.0)),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        logit_bias=_logit_bias(body.logit_bias or {}, model.vocab_size),
        seed=body.seed,
        stop=body.stop,
        stop_token_ids=body.stop_token_ids or (),
        ignore_eos=_or(body.ignore_eos, False),
        include_stop_str_in_output=_or(body.include_stop_str_in_output, False),
        skip_special_tokens=_or(body.skip_special_tokens, True),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=None if wanted is None else wanted.spec,
    )


def ending_at(sampling: SamplingParams, token_ids: Sequence[int]) -> SamplingParams:
    """The sampling of an answer that ends at these tokens too, unless nothing but its length is to end it."""
    if sampling.ignore_eos or not token_ids:
        return sampling
    return replace(sampling, stop_token_ids=(*sampling.stop_token_ids, *token_ids))


def _check_together(body: GenerationRequestBody) -> None:
    """Refuse fields that do not go with each other."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError("'stream_options' needs 'stream' to be true.", param="stream_options")
    if body.prompt_logprobs is not None and body.stream:
        raise InvalidRequestError(
            "'prompt_logprobs' does not go with 'stream'. For completions, 'echo' with 'logprobs' does.",
            param="prompt_logprobs",
        )


def finish_reason(finish: Finish, *, calls: bool = False) -> str:
    """The word of the OpenAI API for how a choice ended.

    Args:
        finish: what the engine says.
        calls: whether the choice has tool calls.

    Raises:
        RequestFailedError: the engine gave the request up, for which clients know no word.
    """
    if finish.reason is FinishReason.ABORT:
        raise RequestFailedError("The request was aborted before its answer was complete.")
    return ending_word(finish, calls=calls)


def ending_word(finish: Finish, *, calls: bool) -> str:
    """How a choice ended, in a word; that of the OpenAI API where it has one."""
    return "tool_calls" if calls and finish.reason is FinishReason.STOP else finish.reason.value


def chat_logprobs(placed: Sequence[PlacedLogprob]) -> dict[str, Any]:
    """The `logprobs` object of a chat choice or chunk."""
    content = []
    for entry, _ in placed:
        top = [_chat_token(each.data, each.logprob) for each in entry.top]
        content.append({**_chat_token(entry.data, entry.logprob), "top_logprobs": top})
    return {"content": content, "refusal": None}


def completion_logprobs(placed: Sequence[PlacedLogprob | PlacedPromptLogprob]) -> dict[str, Any]:
    """The `logprobs` object of a legacy choice or chunk: four parallel arrays.

    `top_logprobs` always holds the chosen token; where two tokens are spelled alike the likelier one counts. Of the
    first token of a prompt there is nothing to say.
    """
    top_logprobs: list[dict[str, float] | None] = []
    for entry, _ in placed:
        if entry.logprob is None:
            top_logprobs.append(None)
            continue
        top: dict[str, float] = {}
        for each in entry.top:
            top.setdefault(_legacy_token(each.data), each.logprob)
        top.setdefault(_legacy_token(entry.data), entry.logprob)
        top_logprobs.append(top)
    return {
        "tokens": [_legacy_token(entry.data) for entry, _ in placed],
        "token_logprobs": [entry.logprob for entry, _ in placed],
        "top_logprobs": top_logprobs,
        "text_offset": [offset for _, offset in placed],
    }


def prompt_logprobs(listed: Sequence[PromptLogprob]) -> list[dict[str, Any] | None]:
    """vLLM's list: for each token of a prompt the token and its alternatives by id; null for the first token."""
    return [None if entry.logprob is None else _by_id(entry, entry.logprob) for entry in listed]


def _by_id(entry: PromptLogprob, logprob: float) -> dict[str, Any]:
    shown = {entry.token_id: _listed_token(entry.data, logprob, None)}
    shown |= {top.token_id: _listed_token(top.data, top.logprob, rank) for rank, top in enumerate(entry.top, start=1)}
    return {str(token_id): each for token_id, each in shown.items()}


def _listed_token(data: bytes, logprob: float, rank: int | None) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": data.decode("utf-8", "replace")}


def _chat_token(data: bytes, logprob: float) -> dict[str, Any]:
    return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}


def _legacy_token(data: bytes) -> str:
    """The token as text, or OpenAI's spelling of one that is not a whole number of characters: `bytes:\\xe2\\x80`."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _logit_bias(bias: Mapping[str, float], vocab_size: int) -> dict[int, float]:
    parsed = {}
    for key, value in bias.items():
        if not (key.isascii() and key.isdigit() and len(key) < 20 and int(key) < vocab_size):
            raise InvalidRequestError(
                f"logit_bias: '{key[:40]}' is not a token id of this model (0 to {vocab_size - 1}).", param="logit_bias"
            )
        parsed[int(key)] = value
    return parsed


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
