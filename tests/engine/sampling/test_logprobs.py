"""Log-probabilities: values, order, and the floor."""

from __future__ import annotations

import numpy as np
import torch

from engine.sampling.logprobs import FLOOR, row_logprobs
from tests.engine.sampling.rows import as_array, random_logits


def test_values_are_the_log_softmax() -> None:
    logits = random_logits(1, 999)[0]
    expected = torch.log_softmax(logits.double(), dim=-1)

    chosen, top = row_logprobs(logits.numpy(), 17, 20)

    assert abs(chosen - expected[17].item()) < 1e-12
    best = expected.topk(20)
    assert [token for token, _ in top] == best.indices.tolist()
    np.testing.assert_allclose([value for _, value in top], best.values, rtol=0, atol=1e-12)


def test_equals_are_listed_by_id_and_the_lowest_ids_win_the_last_place() -> None:
    _, top = row_logprobs(as_array(1, 0, 1, 2, 1, 1), 0, 3)

    assert [token for token, _ in top] == [3, 0, 2]


def test_the_chosen_tokens_value_is_the_one_in_the_list() -> None:
    for seed in range(20):
        logits = random_logits(1, 300, seed=seed)[0].numpy()
        token = int(logits.argsort()[-3])

        chosen, top = row_logprobs(logits, token, 5)

        assert dict(top)[token] == chosen


def test_nothing_lies_below_the_floor() -> None:
    chosen, top = row_logprobs(as_array(0, -np.inf, -50000), 1, 3)

    assert chosen == FLOOR
    assert top == ((0, 0.0), (1, FLOOR), (2, FLOOR))


def test_fewer_tokens_than_asked_for() -> None:
    assert len(row_logprobs(as_array(0, 1), 0, 20)[1]) == 2
    assert row_logprobs(as_array(0, 1), 0, 0)[1] == ()
