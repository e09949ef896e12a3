"""The runner around a model whose logits the test knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import torch

from engine.cache.block import BlockCopy
from engine.cache.kv_format import KVFormat
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.execution.model_runner import ModelRunner
from engine.model.attention_protocol import Attention
from engine.model.config import ModelConfig
from engine.model.forward_batch import ForwardBatch
from engine.model.loader import LoadedModel
from engine.ops.torch_backend import TorchBackend
from engine.scheduling.batch import ScheduledBatch, ScheduledSequence
from engine.scheduling.sequence import Sequence
from engine.types import GenerationRequest, SamplingParams
from tests.engine.execution.steps import model_config, share

VOCAB = 64


@dataclass
class EchoModel:
    """The likeliest token is the token fed plus its position; the next one up is second."""

    backend: TorchBackend = field(default_factory=TorchBackend)
    seen: list[tuple[int, int]] = field(default_factory=list)

    def forward(self, batch: ForwardBatch, attention: Attention) -> torch.Tensor:
        self.seen.append((len(batch.token_ids), len(batch.logit_rows)))
        rows = batch.logit_rows.long()
        likeliest = (batch.token_ids[rows] + batch.positions[rows]).long() % VOCAB
        logits = torch.zeros(len(rows), VOCAB)
        logits[torch.arange(len(rows)), likeliest] = 2.0
        logits[torch.arange(len(rows)), (likeliest + 1) % VOCAB] = 1.0
        return logits

    def warm_up(self, batch: ForwardBatch, attention: Attention) -> torch.Tensor:
        return self.forward(batch, attention)


@dataclass
class EchoLoaded:
    model: EchoModel
    config: ModelConfig


@pytest.fixture
def model() -> EchoModel:
    return EchoModel()


@pytest.fixture
def runner(model: EchoModel, tmp_path: Path) -> ModelRunner:
    cache = PagedKVCache(KVFormat(1, 1, 8, torch.float32), num_blocks=40, block_size=4, device=torch.device("cpu"))
    loaded = cast("LoadedModel", EchoLoaded(model, model_config(tmp_path)))
    return ModelRunner(loaded, cache, EngineConfig(max_num_seqs=6, max_num_batched_tokens=32, block_size=4), (2,))


def test_one_entry_per_item_and_none_where_nothing_is_sampled(runner: ModelRunner) -> None:
    batch = ScheduledBatch(
        (
            share([5, 6, 7], 0, 3, [0], sample=True),
            share([9, 9, 9, 9], 0, 2, [1]),
            share([1, 1, 1, 20], 3, 1, [2], sample=True),
        )
    )

    sampled = runner.collect(runner.submit(batch)).tokens

    assert [None if each is None else each.token_id for each in sampled] == [7 + 2, None, 20 + 3]


def test_a_step_that_samples_nothing(runner: ModelRunner) -> None:
    batch = ScheduledBatch((share([5, 6, 7], 0, 2, [0]),))

    assert runner.collect(runner.submit(batch)).tokens == [None]


def test_blocks_are_copied_before_anything_is_computed(runner: ModelRunner) -> None:
    keys = runner._cache.keys(0)
    keys[7] = 3.0

    runner.submit(ScheduledBatch((share([5, 6, 7], 2, 1, [9]),), (BlockCopy(7, 9),)))

    assert (keys[9] == 3.0).all()


def test_end_tokens_wait_for_the_minimum_length(runner: ModelRunner) -> None:
    request = GenerationRequest("request", (2,), SamplingParams(temperature=0, min_tokens=1))
    item = ScheduledSequence(Sequence(request, 0, 0, [2], block_table=[0]), start=0, num_tokens=1, sample=True)

    sampled = runner.collect(runner.submit(ScheduledBatch((item,)))).tokens[0]

    assert sampled is not None
    assert sampled.token_id == 3


def test_a_token_in_flight_is_the_one_the_step_before_sampled(runner: ModelRunner) -> None:
    one, two = share([5, 6, 7], 0, 3, [0], sample=True), share([1, 1, 1, 20], 3, 1, [1, 2], sample=True)
    first = runner.submit(ScheduledBatch((one, two)))
    for item in (one, two):
        item.sequence.num_in_flight = 1
    ahead = [
        ScheduledSequence(two.sequence, 4, 1, sample=True, in_flight=True),
        ScheduledSequence(one.sequence, 3, 1, sample=True, in_flight=True),
    ]

    second = runner.submit(ScheduledBatch(tuple(ahead)))

    assert [each.token_id for each in runner.collect(first).tokens if each] == [9, 23]
    assert [each.token_id for each in runner.collect(second).tokens if each] == [23 + 4, 9 + 3]


def test_a_token_in_flight_counts_towards_the_minimum_length(runner: ModelRunner) -> None:
    request = GenerationRequest("request", (1,), SamplingParams(temperature=0, min_tokens=1))
    sequence = Sequence(request, 0, 0, [1], block_table=[0])
    runner.submit(ScheduledBatch((ScheduledSequence(sequence, 0, 1, sample=True),)))
    sequence.num_in_flight = 1

    ahead = ScheduledSequence(sequence, 1, 1, sample=True, in_flight=True)
    sampled = runner.collect(runner.submit(ScheduledBatch((ahead,)))).tokens[0]

    assert sampled is not None
    assert sampled.token_id == 2


def test_warming_up_runs_the_largest_step(runner: ModelRunner, model: EchoModel) -> None:
    runner.warm_up()

    assert model.seen == [(32, 6)]
