"""What the device says of given tokens is what the host says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.errors import InvalidLogitsError
from engine.sampling.device_layout import ASKED_BYTES, RECORD, describe_asked
from engine.sampling.device_sampler import DeviceSampler
from engine.sampling.logprobs import FLOOR
from engine.sampling.prompt_tokens import AskedToken, score_tokens
from engine.scheduling.batch import SampledToken
from tests.emulation.device import EmulatedRuntime
from tests.engine.sampling.rows import random_logits


def scored(runtime: EmulatedRuntime, logits: torch.Tensor, asked: list[AskedToken]) -> list[SampledToken]:
    """As a step has it: a description goes there, records come back."""
    rows, vocab = logits.shape
    sampler = DeviceSampler(runtime, vocab, rows)
    described = describe_asked(asked)
    assert described.nbytes == rows * ASKED_BYTES
    tokens = torch.zeros(rows, dtype=torch.int32)
    records = torch.zeros(rows, RECORD.itemsize, dtype=torch.uint8)
    sampler.sample(logits, torch.from_numpy(described), tokens, records)
    return sampler.scores(records.numpy(), asked)


@pytest.mark.parametrize("vocab", [1, 40, 2049, 5003])
def test_scores_are_those_of_the_host(emulated: EmulatedRuntime, vocab: int) -> None:
    """The likeliest token, the unlikeliest, and others; with none, one and all alternatives."""
    logits = random_logits(8, vocab, seed=vocab)
    tokens = [int(logits[0].argmax()), int(logits[1].argmin()), *(row * 7919 % vocab for row in range(2, 8))]
    asked = [AskedToken(token, count, "a") for token, count in zip(tokens, (0, 1, 20) * 3, strict=False)]

    found = scored(emulated, logits, asked)

    for own, expected in zip(found, score_tokens(logits, asked), strict=True):
        assert own.token_id == expected.token_id
        assert own.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert [token for token, _ in own.top] == [token for token, _ in expected.top]
        assert [each for _, each in own.top] == pytest.approx([each for _, each in expected.top], abs=1e-5)
        assert all(each == own.logprob for token, each in own.top if token == own.token_id)


def test_a_token_that_cannot_be_has_the_lowest_score(emulated: EmulatedRuntime) -> None:
    logits = random_logits(2, 50, seed=1)
    logits[:, 7] = -np.inf
    asked = [AskedToken(7, 2, "a"), AskedToken(8, 2, "a")]
    found = scored(emulated, logits, asked)
    assert (found[0].token_id, found[0].logprob) == (7, FLOOR)
    assert found[1].logprob != FLOOR
    assert [each.logprob for each in score_tokens(logits, asked)] == pytest.approx([each.logprob for each in found])


@pytest.mark.parametrize("fault", [np.nan, np.inf])
def test_faults_name_their_requests(emulated: EmulatedRuntime, fault: float) -> None:
    logits = random_logits(3, 50, seed=2)
    logits[1, 3] = fault
    asked = [AskedToken(1, 0, "a"), AskedToken(1, 0, "b"), AskedToken(1, 0, "c")]
    for attempt in (lambda: scored(emulated, logits, asked), lambda: list(score_tokens(logits, asked))):
        with pytest.raises(InvalidLogitsError) as caught:
            attempt()
        assert caught.value.request_ids == ("b",)
