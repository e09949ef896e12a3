"""An engine core over a random model on the card, without tokenizer or server, whose steps are timed on both sides."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch

from benchmarks.gpu.card import Card, Mark
from engine.cache.block_manager import BlockManager
from engine.cache.kv_format import KVFormat
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_builder import GrammarBuilder
from engine.core import EngineCore
from engine.execution.device_model_runner import DeviceModelRunner
from engine.model.loader import LoadedModel
from engine.ops.step_device import StepDevice, StepEvent, StepGraph
from engine.sampling.device_sampler import DeviceSampler
from engine.scheduling.scheduler import Scheduler
from engine.text.token_bytes import TokenBytes
from engine.types import GenerationRequest, ModelInfo, SamplingParams


@dataclass
class MarkedSteps:
    """A `StepDevice` that notes when the card begins and ends each step, and how long the host waits for it.

    Attributes:
        card: keeps the time.
        inner: the device.
        steps: begin and end of every step since the last time this was emptied.
        waited: seconds the host has waited, likewise.
    """

    card: Card
    inner: StepDevice
    steps: list[tuple[Mark, Mark]] = field(default_factory=list)
    waited: float = 0.0

    @property
    def device(self) -> torch.device:
        """As `StepDevice`; so are the others."""
        return self.inner.device

    def settle(self) -> None:
        self.inner.settle()

    def free_bytes(self) -> int:
        return self.inner.free_bytes()

    def computing(self) -> AbstractContextManager[object]:
        return self._marked()

    @contextmanager
    def _marked(self) -> Iterator[None]:
        with self.inner.computing():
            begin = self.card.mark()
            yield
            self.steps.append((begin, self.card.mark()))

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        return self.inner.host_buffer(nbytes)

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self.inner.copy(source, target)

    def event(self) -> StepEvent:
        return _TimedEvent(self, self.inner.event())

    def capture(self, body: Callable[[], None]) -> StepGraph:
        return self.inner.capture(body)

    def forget(self) -> None:
        """Begin anew."""
        self.steps.clear()
        self.waited = 0.0


class _TimedEvent:
    def __init__(self, steps: MarkedSteps, inner: StepEvent) -> None:
        self._steps = steps
        self._inner = inner

    def record(self) -> None:
        self._inner.record()

    def wait(self) -> None:
        before = time.perf_counter()
        self._inner.wait()
        self._steps.waited += time.perf_counter() - before


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
        idle: share of that in which the card has nothing to do.
        host_seconds: of a step in which the host does something.
        total_seconds: of everything, prompts included.
    """

    seconds: float
    idle: float
    host_seconds: float
    total_seconds: float


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
        self._steps.forget()
        before, steps = time.perf_counter(), self.core.stats.steps_total
        while self.core.stats.running == load.streams:
            self.core.step()
        host = time.perf_counter() - before - self._steps.waited
        steps = self.core.stats.steps_total - steps
        marks = list(self._steps.steps)
        while self.core.has_work:
            self.core.step()
        marks = marks[STEPS_ON_THE_WAY:]
        (_, first), (_, last) = marks[0], marks[-1]
        total = last.seconds_since(first)
        gaps = sum(begin.seconds_since(end) for (_, end), (begin, _) in itertools.pairwise(marks))
        return Decoding(total / (len(marks) - 1), gaps / total, host / steps, time.perf_counter() - begun)

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
