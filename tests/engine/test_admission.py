"""What is refused before a request is queued."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.admission import MAX_STOP_BYTES, check_request, with_seed
from engine.errors import ContextLengthError, InvalidRequestError
from tests.fakes.toy_engine import request, toy_model

MODEL = toy_model(vocab_size=100, max_model_len=50, kv_cache_tokens=40)


@pytest.mark.parametrize(
    ("prompt", "sampling", "param"),
    [
        ([], {}, "prompt"),
        ([5, 100], {}, "prompt"),
        ([5, -1], {}, "prompt"),
        ([5] * 40, {}, "prompt"),
        ([5], {"stop_token_ids": [100]}, "stop_token_ids"),
        ([5], {"stop_token_ids": [-1]}, "stop_token_ids"),
        ([5], {"logit_bias": {100: 1.0}}, "logit_bias"),
        ([5], {"stop": "x" * (MAX_STOP_BYTES + 1)}, "stop"),
        ([5], {"stop": "\ud800"}, "stop"),
    ],
)
def test_what_can_never_be_answered_is_refused(prompt: list[int], sampling: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_request(request("a", prompt, **sampling), MODEL)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("sampling", "param"),
    [({"stop_token_ids": [1, 2, 3]}, "stop_token_ids"), ({"logit_bias": {1: 1.0, 2: 1.0}}, "logit_bias")],
)
def test_what_the_device_has_no_room_for_is_refused(sampling: dict[str, object], param: str) -> None:
    check_request(request("a", [5], **sampling), MODEL)
    check_request(request("a", [5], **sampling), replace(MODEL, max_biased_tokens=2, max_stop_tokens=3))
    with pytest.raises(InvalidRequestError, match=f"{param}: at most . tokens can be named on this device") as caught:
        check_request(request("a", [5], **sampling), replace(MODEL, max_biased_tokens=1, max_stop_tokens=2))
    assert caught.value.param == param


def test_a_prompt_must_leave_room_for_one_token() -> None:
    roomy = toy_model(vocab_size=100, max_model_len=50, kv_cache_tokens=400)
    check_request(request("a", [5] * 49), roomy)
    with pytest.raises(ContextLengthError, match=r"50 tokens\. However, your prompt has 50"):
        check_request(request("a", [5] * 50), roomy)
    check_request(request("a", [5] * 39), MODEL)


def test_a_seed_is_kept_or_drawn() -> None:
    assert with_seed(request("a", [5], seed=3)).sampling.seed == 3
    drawn = {with_seed(request("a", [5], seed=None)).sampling.seed for _ in range(5)}
    assert len(drawn) == 5
    assert all(seed is not None and 0 <= seed < 2**63 for seed in drawn)
