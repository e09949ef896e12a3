"""Sampling parameters check themselves, whoever makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidRequestError
from engine.types import SamplingParams


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("temperature", "hot", "temperature must be a number, not 'hot'"),
        ("temperature", None, "temperature must be a number"),
        ("temperature", float("nan"), "temperature must be between"),
        ("top_p", True, "top_p must be a number"),
        ("n", 1.5, "n must be a whole number, not 1.5"),
        ("n", None, "n must be a whole number"),
        ("max_tokens", "16", "max_tokens must be a whole number"),
        ("seed", [1], r"seed must be a whole number, not \[1\]"),
        ("logprobs", True, "logprobs must be a whole number"),
        ("min_tokens", 17, r"min_tokens \(17\) must not exceed max_tokens \(16\)"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, fragment: str) -> None:
    with pytest.raises(InvalidRequestError, match=fragment) as refusal:
        SamplingParams(**{name: value})
    assert refusal.value.param == name


def test_numbers_of_numpy_are_numbers() -> None:
    params = SamplingParams(n=np.int64(2), temperature=np.float32(0.5), max_tokens=None, seed=None)  # type: ignore[arg-type]
    assert (params.n, params.temperature) == (2, 0.5)
