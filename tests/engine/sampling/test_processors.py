"""Bias, penalties and the minimum length, each by a case worked out by hand."""

from __future__ import annotations

import numpy as np

from engine.sampling.processors import process_logits
from engine.types import SamplingParams
from tests.engine.sampling.rows import as_array, sequence


def processed(params: SamplingParams, *, answer: tuple[int, ...] = (), ends: tuple[int, ...] = ()) -> list[float]:
    """Logits (1, -1, 2, -2) after a prompt of tokens 0 and 1."""
    logits = as_array(1, -1, 2, -2)
    process_logits(logits, sequence(params, prompt=(0, 1, 1), answer=answer), ends)
    changed: list[float] = logits.tolist()
    return changed


def test_bias_is_added() -> None:
    assert processed(SamplingParams(logit_bias={3: 100, 0: -0.5})) == [0.5, -1, 2, 98]


def test_repetition_counts_prompt_and_answer_once() -> None:
    assert processed(SamplingParams(repetition_penalty=2.0), answer=(3, 3)) == [0.5, -2, 2, -4]


def test_presence_and_frequency_count_the_answer_only() -> None:
    assert processed(SamplingParams(presence_penalty=0.5), answer=(2, 2, 3)) == [1, -1, 1.5, -2.5]
    assert processed(SamplingParams(frequency_penalty=0.5), answer=(2, 2, 3)) == [1, -1, 1, -2.5]
    assert processed(SamplingParams(presence_penalty=-1, frequency_penalty=0.25), answer=(2, 2)) == [1, -1, 2.5, -2]


def test_bias_comes_before_the_repetition_penalty() -> None:
    assert processed(SamplingParams(logit_bias={0: 1.0}, repetition_penalty=2.0)) == [1, -2, 2, -2]


def test_end_and_stop_tokens_wait_for_the_minimum_length() -> None:
    params = SamplingParams(min_tokens=2, stop_token_ids=[2])

    assert processed(params, answer=(3,), ends=(0,)) == [-np.inf, -1, -np.inf, -2]
    assert processed(params, answer=(3, 3), ends=(0,)) == [1, -1, 2, -2]


def test_forbidden_tokens_stay_forbidden_whatever_their_bias() -> None:
    assert processed(SamplingParams(min_tokens=1, logit_bias={0: 100}), ends=(0,))[0] == -np.inf
