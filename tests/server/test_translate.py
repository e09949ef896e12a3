from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RequestFailedError
from engine.text.defaults import GenerationDefaults
from engine.types import Finish, FinishReason, TokenLogprob, TopLogprob
from server.schemas.completion import CompletionRequest
from server.translate import PlacedLogprob, completion_logprobs, completion_sampling, finish_reason
from tests.fakes.engine import MODEL

NO_DEFAULTS = GenerationDefaults()


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_seed_reaches_the_engine_as_it_is(seed: int) -> None:
    assert completion_sampling(CompletionRequest(prompt="a", seed=seed), NO_DEFAULTS, MODEL).seed == seed


def test_neutral_values_without_defaults() -> None:
    sampling = completion_sampling(CompletionRequest(prompt="a"), NO_DEFAULTS, MODEL)
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1.0, 1.0, 0, 0.0)
    assert sampling.repetition_penalty == 1.0
    assert sampling.max_tokens == 16


def test_a_completion_is_16_tokens_whatever_the_model_says() -> None:
    defaults = GenerationDefaults(max_tokens=2048)
    assert completion_sampling(CompletionRequest(prompt="a"), defaults, MODEL).max_tokens == 16


def test_top_k_beyond_the_vocabulary_is_all_of_it() -> None:
    sampling = completion_sampling(CompletionRequest(prompt="a", top_k=2**31 - 1), NO_DEFAULTS, MODEL)
    assert sampling.top_k == MODEL.vocab_size


def test_aborted_choices_have_no_word() -> None:
    assert finish_reason(Finish(FinishReason.LENGTH)) == "length"
    with pytest.raises(RequestFailedError):
        finish_reason(Finish(FinishReason.ABORT))


def test_tokens_spelled_alike_keep_the_likelier_value() -> None:
    chosen = TokenLogprob(2, b"A", -2.0, (TopLogprob(1, b"A", -0.5), TopLogprob(3, b"B", -1.0)))
    outside = TokenLogprob(4, b"Z", -9999.0, (TopLogprob(1, b"A", -0.5),))
    shown = completion_logprobs([PlacedLogprob(chosen, 0), PlacedLogprob(outside, 1)])
    assert shown["token_logprobs"] == [-2.0, -9999.0]
    assert shown["top_logprobs"] == [{"A": -0.5, "B": -1.0}, {"A": -0.5, "Z": -9999.0}]
    assert math.isfinite(json.loads(json.dumps(shown, allow_nan=False))["token_logprobs"][1])
