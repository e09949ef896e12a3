"""What the offline class returns. Names and meanings are those of vLLM's classes, so that code moves over unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from engine.types import Finish, FinishReason, OutputDelta, PromptLogprob, TokenLogprob


@dataclass(frozen=True, slots=True)
class Logprob:
    """Log-probability of a token at a position.

    Attributes:
        logprob: natural logarithm.
        rank: 1 for the likeliest token; None for a token that is not among the alternatives asked for.
        decoded_token: its text; bytes that are no whole character show as U+FFFD.
    """

    logprob: float
    rank: int | None
    decoded_token: str


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One choice.

    Attributes:
        index: of the choice, 0 … n - 1.
        text: the answer; bytes that are no whole character show as U+FFFD.
        token_ids: its tokens, end and stop tokens excepted.
        logprobs: per token, if asked for: the chosen token and the alternatives, by id.
        cumulative_logprob: sum over the chosen tokens, if asked for.
        finish_reason: `stop` or `length`.
        stop_reason: the stop string or token id that ended it; None for the model's own end token and for `length`.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    cumulative_logprob: float | None
    finish_reason: str | None
    stop_reason: int | str | None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """The answers to one prompt.

    Attributes:
        request_id: running number.
        prompt: its text; None where token ids were given.
        prompt_token_ids: its tokens.
        outputs: the choices, by index.
        prompt_logprobs: as `logprobs` of a choice, for the prompt, if asked for; None in place of its first token.
        num_cached_tokens: prompt tokens found in the prefix cache.
        finished: always true; answers are returned when they are complete.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    num_cached_tokens: int
    finished: bool = True


@dataclass(frozen=True, slots=True)
class EmbeddingOutput:
    """A vector.

    Attributes:
        embedding: of length 1.
    """

    embedding: list[float]


@dataclass(frozen=True, slots=True)
class EmbeddingRequestOutput:
    """The vector of one prompt.

    Attributes:
        request_id: running number.
        outputs: the vector.
        prompt_token_ids: tokens of the prompt.
        num_cached_tokens: prompt tokens found in the prefix cache.
        finished: always true.
    """

    request_id: str
    outputs: EmbeddingOutput
    prompt_token_ids: list[int]
    num_cached_tokens: int
    finished: bool = True


def fold_choice(index: int, deltas: Sequence[OutputDelta]) -> CompletionOutput:
    """One choice from all of its deltas."""
    entries = [entry for delta in deltas for entry in delta.logprobs or ()]
    with_logprobs = any(delta.logprobs is not None for delta in deltas)
    finish = deltas[-1].finish or Finish(FinishReason.ABORT)
    return CompletionOutput(
        index=index,
        text=_text(b"".join(delta.data for delta in deltas)),
        token_ids=[token for delta in deltas for token in delta.token_ids],
        logprobs=[_alternatives(entry) for entry in entries] if with_logprobs else None,
        cumulative_logprob=sum(entry.logprob for entry in entries) if with_logprobs else None,
        finish_reason=finish.reason.value,
        stop_reason=finish.stop,
    )


def fold_embedding(prompt_token_ids: Sequence[int], deltas: Sequence[OutputDelta]) -> EmbeddingRequestOutput:
    """The vector from all deltas of a request for one."""
    last = deltas[-1]
    vector = np.frombuffer(last.embedding or b"", "<f4").tolist()
    return EmbeddingRequestOutput(
        last.request_id, EmbeddingOutput(vector), list(prompt_token_ids), num_cached_tokens=last.cached_tokens
    )


def fold_prompt(entries: Sequence[PromptLogprob] | None) -> list[dict[int, Logprob] | None] | None:
    """Log-probabilities of a prompt, as the engine tells them."""
    return None if entries is None else [_alternatives(entry) for entry in entries]


@overload
def _alternatives(entry: TokenLogprob) -> dict[int, Logprob]: ...
@overload
def _alternatives(entry: PromptLogprob) -> dict[int, Logprob] | None: ...
def _alternatives(entry: TokenLogprob | PromptLogprob) -> dict[int, Logprob] | None:
    if entry.logprob is None:
        return None
    ranked = {top.token_id: Logprob(top.logprob, rank, _text(top.data)) for rank, top in enumerate(entry.top, start=1)}
    if entry.token_id in ranked:
        return ranked
    return {entry.token_id: Logprob(entry.logprob, None, _text(entry.data)), **ranked}


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
