"""An engine core over a random model on the card, without tokenizer or server, whose steps are timed on both sides."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.marked_steps import REPLAYS, MarkedSteps
from engine.cache.block_manager import BlockManager
from engine.cache.kv_format import KVFormat
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_builder import GrammarBuilder
from engine.core import EngineCore
from engine.execution.device_model_runner import DeviceModelRunner
from engine.model.loader import LoadedModel
from engine.sampling.device_sampler import DeviceSampler
from engine.scheduling.scheduler import Scheduler
from engine.text.token_bytes import TokenBytes
from engine.types import GenerationRequest, ModelInfo, SamplingParams


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine is asked.

    Attributes:
        streams: requests side by side.
        prompt: tokens of each prompt.
        answer: tokens of each answer.
        step_tokens: most in a step.
    """

    streams: int
    prompt: int
    answer: int
    step_tokens: int = 2048


@dataclass(frozen=True, slots=True)
class Decoding:
    """Steps in which all streams get a token each.

    Attributes:
        seconds: of a step, from one's end to the next one's.
        replay_seconds: of a step's recording alone, replayed without a pause; None where steps are not recorded. It is
            taken before and after the steps, and averaged, since contexts grow.
        late_seconds: of a step in which the card is done with the one before and the host has given it nothing yet.
        host_seconds: of a step in which the host does something.
        total_seconds: of everything, prompts included.
    """

    seconds: float
    replay_seconds: float | None
    late_seconds: float
    host_seconds: float
    total_seconds: float

    @property
    def idle(self) -> float | None:
        """Share of a step in which the card computes nothing: it copies, or waits, whatever for."""
        return None if self.replay_seconds is None else 1 - self.replay_seconds / self.seconds


BLOCK_SIZE = 16
STEPS_ON_THE_WAY = 2
"""Steps that may have been given to the card before the last prompt was known to be computed."""


class EngineUnderTest:
    """The engine.

    Args:
        card: computes.
        loaded: the model.
        load: the most it will be asked.
        graphs: whether steps that recur are recorded.
    """

    def __init__(self, card: Card, loaded: LoadedModel, load: Load, *, graphs: bool = True) -> None:
        config = loaded.config
        self._vocab_size = config.vocab_size
        length = load.prompt + load.answer
        blocks = load.streams * -(-length // BLOCK_SIZE)
        kv_format = KVFormat(config.num_layers, config.num_kv_heads, config.head_dim, torch.float16)
        cache = PagedKVCache(kv_format, blocks, BLOCK_SIZE, card.device)
        settings = EngineConfig(
            max_num_seqs=load.streams,
            max_num_batched_tokens=load.step_tokens,
            max_model_len=length,
            block_size=BLOCK_SIZE,
        )
        self._graphs = graphs
        self._steps = MarkedSteps(card, card.runtime.steps())
        rows = min(load.streams, load.step_tokens)
        sampler = DeviceSampler(card.runtime, config.vocab_size, rows)
        runner = DeviceModelRunner(loaded, cache, settings, sampler, self._steps, graphs=graphs)
        runner.warm_up()
        manager = BlockManager(blocks, BLOCK_SIZE, prefix_caching=False)
        scheduler = Scheduler(manager, max_num_seqs=load.streams, max_num_batched_tokens=load.step_tokens)
        tokens = TokenBytes([b"x"] * config.vocab_size, frozenset())
        model = _described(loaded, length, blocks)
        grammars = GrammarBuilder(GrammarCompiler(tokens, ()), settings.grammar_timeout)
        self.core = EngineCore(
            model, scheduler, manager, runner, tokens, grammars, pipeline_depth=runner.pipeline_depth
        )

    def decode(self, load: Load) -> Decoding:
        """Answer some requests, and time the steps after all prompts are computed."""
        self._add(load)
        begun = time.perf_counter()
        self._step_until_all_answer(load)
        replays = self._replay_seconds()
        self._steps.forget()
        before, steps = time.perf_counter(), self.core.stats.steps_total
        while self.core.stats.running == load.streams:
            self.core.step()
        host = time.perf_counter() - before - self._steps.waited
        steps = self.core.stats.steps_total - steps
        marks = list(self._steps.steps)
        replays += self._replay_seconds()
        while self.core.has_work:
            self.core.step()
        marks = marks[STEPS_ON_THE_WAY:]
        (_, first), (_, last) = marks[0], marks[-1]
        counted = len(marks) - 1
        late = sum(begin.seconds_since(end) for (_, end), (begin, _) in itertools.pairwise(marks))
        return Decoding(
            seconds=last.seconds_since(first) / counted,
            replay_seconds=statistics.mean(replays) if replays else None,
            late_seconds=late / counted,
            host_seconds=host / steps,
            total_seconds=time.perf_counter() - begun - (1 + REPLAYS) * sum(replays),
        )

    def prefill(self, load: Load) -> float:
        """Seconds the card takes for the prompts' steps."""
        self._add(load)
        self._steps.forget()
        self._step_until_all_answer(load)
        prompts = -(-load.streams * load.prompt // load.step_tokens)
        marks = self._steps.steps[:prompts]
        seconds = sum(end.seconds_since(begin) for begin, end in marks)
        while self.core.has_work:
            self.core.step()
        return seconds

    def _replay_seconds(self) -> list[float]:
        """Of the latest step, once that is one of decoding alone; of none where steps are not recorded."""
        while self._graphs and self._steps.latest is None and self.core.has_work:
            self.core.step()
        return [self._steps.replay_seconds()] if self._graphs else []

    def _step_until_all_answer(self, load: Load) -> None:
        answering: set[str] = set()
        while len(answering) < load.streams:
            answering.update(delta.request_id for delta in self.core.step().deltas)

    def _add(self, load: Load) -> None:
        draw = random.Random(load.streams)
        for index in range(load.streams):
            prompt = tuple(draw.randrange(self._vocab_size) for _ in range(load.prompt))
            params = SamplingParams(temperature=0, max_tokens=load.answer, ignore_eos=True, seed=0)
            self.core.add(GenerationRequest(str(index), prompt, params))


def answer_all(core: EngineCore, requests: Iterable[GenerationRequest]) -> dict[str, object]:
    """Queue requests and step until all are answered: token ids and log-probabilities of each.

    Raises:
        RuntimeError: one of them failed.
    """
    tokens: dict[str, list[int]] = {}
    logprobs: dict[str, list[object]] = {}
    for request in requests:
        tokens[request.request_id], logprobs[request.request_id] = [], []
        core.add(request)
    while core.has_work:
        output = core.step()
        if output.failures:
            raise RuntimeError(f"requests failed: {output.failures}")
        for delta in output.deltas:
            tokens[delta.request_id] += delta.token_ids
            logprobs[delta.request_id] += [(each.token_id, each.logprob, each.top) for each in delta.logprobs or ()]
    return {name: (tokens[name], logprobs[name]) for name in tokens}


def _described(loaded: LoadedModel, length: int, blocks: int) -> ModelInfo:
    summary = loaded.summary
    return ModelInfo(
        name="random",
        path="",
        architecture=loaded.config.architecture,
        weight_format=summary.weight_format,
        bits_per_weight=summary.bits_per_weight,
        head_bits_per_weight=summary.head_bits_per_weight,
        parameters=summary.parameters,
        weight_bytes=summary.weight_bytes,
        device="cuda",
        kernels=loaded.model.backend.name,
        threads=0,
        vocab_size=loaded.config.vocab_size,
        hidden_size=loaded.config.hidden_size,
        max_model_len=length,
        block_size=BLOCK_SIZE,
        kv_cache_tokens=blocks * BLOCK_SIZE,
        kv_cache_bytes=0,
        kv_cache_dtype="float16",
        eos_token_ids=(),
        load_seconds=0.0,
    )
