"""What is checked before a request is queued, so that every refusal comes before the first byte of an answer."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Protocol

from engine.errors import ContextLengthError, InvalidRequestError
from engine.pooling import PoolingParams
from engine.types import GenerationRequest, SamplingParams

MAX_PROMPT_LOGPROBS = 1 << 18
"""Most log-probabilities that are told of one prompt: all are in memory at once before they are."""

MAX_STOP_BYTES = 16384
"""Most bytes of all stop strings of a request together; the engine builds an automaton with a state for each."""


class RequestLimits(Protocol):
    """What a model can take at all; `ModelInfo` says so of a loaded one."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        ...

    @property
    def hidden_size(self) -> int:
        """Features of a hidden state."""
        ...

    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and answer."""
        ...

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens the cache holds."""
        ...

    @property
    def max_biased_tokens(self) -> int:
        """Most tokens that `logit_bias` may name; 0 for any number."""
        ...

    @property
    def max_stop_tokens(self) -> int:
        """Most `stop_token_ids`; 0 for any number."""
        ...


def check_request(request: GenerationRequest, model: RequestLimits) -> None:
    """Refuse what this model can never answer.

    Raises:
        ContextLengthError: the prompt leaves no room for a token within the model's context, where one is wanted.
        InvalidRequestError: the prompt is empty or does not fit the cache, a token id is not in the vocabulary, or a
            field names more tokens than the device has room for.
    """
    _check_prompt(request.prompt_token_ids, model, room=0 if request.sampling.max_tokens == 0 else 1)
    _check_token_ids(request.sampling, model)
    _check_stop_strings(request.sampling)
    _check_prompt_logprobs(request)
    if request.pooling is not None:
        _check_dimensions(request.pooling, model)


def with_seed(request: GenerationRequest) -> GenerationRequest:
    """The request with a seed: its own, or a drawn one."""
    if request.sampling.seed is not None:
        return request
    return replace(request, sampling=replace(request.sampling, seed=random.getrandbits(63)))


def _check_prompt(prompt: tuple[int, ...], model: RequestLimits, room: int) -> None:
    if not prompt:
        raise InvalidRequestError("The prompt is empty; it must have at least one token.", param="prompt")
    if len(prompt) + room > model.max_model_len:
        raise ContextLengthError(len(prompt), model.max_model_len, param="prompt")
    if len(prompt) + room > model.kv_cache_tokens:
        raise InvalidRequestError(
            f"The prompt has {len(prompt)} tokens, but the KV cache holds {model.kv_cache_tokens}, an answer included. "
            "Shorten the prompt, or start the server with a larger kv_cache_tokens.",
            param="prompt",
            code="context_length_exceeded",
        )
    for token in (min(prompt), max(prompt)):
        _check_token_id(token, model, "prompt")


def _check_token_ids(sampling: SamplingParams, model: RequestLimits) -> None:
    for tokens, most, param in (
        (sampling.stop_token_ids, model.max_stop_tokens, "stop_token_ids"),
        (sampling.logit_bias, model.max_biased_tokens, "logit_bias"),
    ):
        if 0 < most < len(tokens):
            raise InvalidRequestError(
                f"{param}: at most {most} tokens can be named on this device, not {len(tokens)}.", param=param
            )
        for token in tokens:
            _check_token_id(token, model, param)
    if sampling.reasoning is not None:
        for token in (*sampling.reasoning.start_token_ids, *sampling.reasoning.closing_token_ids):
            _check_token_id(token, model, "reasoning")


def _check_token_id(token: int, model: RequestLimits, param: str) -> None:
    if not 0 <= token < model.vocab_size:
        raise InvalidRequestError(
            f"Token id {token} is not in the vocabulary; ids go from 0 to {model.vocab_size - 1}.", param=param
        )


def _check_prompt_logprobs(request: GenerationRequest) -> None:
    count, tokens = request.sampling.prompt_logprobs, len(request.prompt_token_ids)
    if count is not None and tokens * (count + 1) > MAX_PROMPT_LOGPROBS:
        raise InvalidRequestError(
            f"{count} alternatives for each of {tokens} prompt tokens are too much to tell; the prompt's tokens and "
            f"their alternatives may be {MAX_PROMPT_LOGPROBS} together.",
            param="prompt_logprobs",
        )


def _check_dimensions(pooling: PoolingParams, model: RequestLimits) -> None:
    if pooling.dimensions is not None and pooling.dimensions > model.hidden_size:
        raise InvalidRequestError(
            f"This model's vectors have {model.hidden_size} dimensions, not {pooling.dimensions}.",
            param="dimensions",
        )


def _check_stop_strings(sampling: SamplingParams) -> None:
    try:
        size = sum(len(stop.encode()) for stop in sampling.stop_strings)
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            "A stop string is not valid Unicode: it contains half of a surrogate pair.", param="stop"
        ) from error
    if size > MAX_STOP_BYTES:
        raise InvalidRequestError(
            f"The stop strings have {size} bytes together; at most {MAX_STOP_BYTES} are accepted.", param="stop"
        )
