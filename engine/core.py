"""The engine's step loop: requests in, deltas out. Synchronous, single-threaded, and free of anything about tensors."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from engine.admission import check_request
from engine.cache.block_manager import BlockManager
from engine.choice import Choice
from engine.constraints.grammar_builder import GrammarBuilder
from engine.constraints.stop import stop_strings
from engine.constraints.thinking import Thinking
from engine.errors import (
    DeadlineExceededError,
    EngineDeadError,
    InvalidRequestError,
    NoTokenError,
    QuireError,
    RequestFailedError,
)
from engine.logs import FIELDS
from engine.messages import RequestFailed, StepOutput
from engine.scheduling.batch import SampledToken, ScheduledBatch, ScheduledSequence
from engine.scheduling.deadlines import Deadlines
from engine.scheduling.runner import Runner
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from engine.scheduling.stopping import most_tokens
from engine.scheduling.timeline import Timeline
from engine.scheduling.waiting import WaitReason
from engine.stats import EngineStats
from engine.text.token_bytes import TokenBytes
from engine.types import GenerationRequest, ModelInfo, OutputDelta

logger = logging.getLogger(__name__)

_TIMED_OUT = "The request was not answered within its time (field 'timeout', or the server's request_timeout)."


GRAMMAR_PATIENCE = 0.02
"""Seconds a step waits for grammars that are compiled, where there is nothing else to do."""

MOST_FAILURES = 3
"""Steps that may fail one after the other, for reasons nobody foresaw, before the engine itself counts as broken."""


class StepUnderWay(NamedTuple):
    """A step that has been submitted and not collected; `handle` is the runner's, `started` on the core's clock."""

    batch: ScheduledBatch
    handle: Any
    started: float


class EngineCore:
    """Owns every request from arrival to end.

    Args:
        model: what is loaded; requests are checked against it.
        scheduler: decides what each step computes.
        blocks: the block manager the scheduler works with.
        runner: computes it.
        tokens: bytes of every token id.
        grammars: compiles the grammars that requests bring.
        pipeline_depth: most steps that are submitted beside the one whose result is waited for. 0 computes one step
            at a time; 1 keeps a device busy that computes while the host handles the step before.
        request_timeout: seconds a request has that says nothing itself; 0 means any time.
        clock: seconds from any fixed moment; deadlines and the time of steps are measured by it.
    """

    def __init__(
        self,
        model: ModelInfo,
        scheduler: Scheduler,
        blocks: BlockManager,
        runner: Runner[Any],
        tokens: TokenBytes,
        grammars: GrammarBuilder,
        *,
        pipeline_depth: int = 0,
        request_timeout: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self._scheduler = scheduler
        self._blocks = blocks
        self._runner = runner
        self._tokens = tokens
        self._grammars = grammars
        self._thinking = Thinking(tokens, model.eos_token_ids)
        self._pipeline_depth = pipeline_depth
        self._request_timeout = request_timeout
        self._clock = clock
        self._deadlines = Deadlines()
        self._requests: dict[str, dict[int, Choice]] = {}  # choices not yet finished, by request and index
        self._under_way: deque[StepUnderWay] = deque()
        self._collected = clock()  # when the last step was
        self._failures = 0  # of steps, since one succeeded
        self._steps = 0
        self._generated = 0

    @property
    def has_work(self) -> bool:
        """Whether there is a request to answer or a step to collect."""
        return bool(self._requests or self._under_way)

    @property
    def stats(self) -> EngineStats:
        """Figures as of now."""
        return EngineStats(
            running=self._scheduler.num_running,
            waiting=self._scheduler.num_waiting + self._num_without_grammar,
            kv_blocks_total=self._blocks.num_blocks,
            kv_blocks_used=self._blocks.num_used,
            steps_total=self._steps,
            prompt_tokens_total=self._scheduler.prompt_tokens,
            generation_tokens_total=self._generated,
            prefix_cache_queries_total=self._scheduler.prefix_queries,
            prefix_cache_hits_total=self._scheduler.prefix_hits,
            preemptions_total=self._scheduler.preemptions,
            waiting_for_cache=self._scheduler.num_waiting_for(WaitReason.CACHE),
            waiting_for_batch=self._scheduler.num_waiting_for(WaitReason.BATCH),
            waiting_for_budget=self._scheduler.num_waiting_for(WaitReason.BUDGET),
            waiting_for_prompt=self._scheduler.num_waiting_for(WaitReason.PROMPT),
            waiting_for_grammar=self._num_without_grammar,
        )

    def add(self, request: GenerationRequest, sent_at: float | None = None) -> None:
        """Queue a request.

        Args:
            request: what to answer.
            sent_at: when it was sent here, by this engine's clock; its time counts from then. None means now.

        Raises:
            InvalidRequestError: this engine can never answer it, its id is in use, or it has no seed.
        """
        check_request(request, self.model)
        if request.request_id in self._requests:
            raise InvalidRequestError(f"A request with the id '{request.request_id}' is in flight.", param="request_id")
        seed = request.sampling.seed
        if seed is None:
            raise InvalidRequestError("A request must carry a seed when it reaches the engine.", param="seed")
        strings = stop_strings(request.sampling)
        max_tokens = most_tokens(len(request.prompt_token_ids), request.sampling, self.model)
        arrived = self._clock() if sent_at is None else sent_at
        choices = [
            Choice(
                Sequence(
                    request,
                    index,
                    seed,
                    list(request.prompt_token_ids),
                    max_tokens=max_tokens,
                    timeline=Timeline(arrived),
                    constraint=self._thinking.constraint(request.sampling),
                ),
                strings=strings,
                tokens=self._tokens,
                end_token_ids=self.model.eos_token_ids,
            )
            for index in range(request.sampling.n)
        ]
        self._requests[request.request_id] = dict(enumerate(choices))
        if request.sampling.grammar is None:
            self._scheduler.add([choice.sequence for choice in choices])
        else:
            self._grammars.want(request.request_id, request.sampling.grammar)
        timeout = request.timeout or self._request_timeout
        if timeout:
            self._deadlines.set(request.request_id, arrived + timeout)

    def abort(self, request_id: str) -> None:
        """Drop a request wherever it is; unknown and finished ones are ignored."""
        self._deadlines.forget(request_id)
        self._grammars.forget(request_id)
        for choice in self._requests.pop(request_id, {}).values():
            self._scheduler.remove(choice.sequence)

    def step(self) -> StepOutput:
        """Finish one step and hand out what it made certain. An error in it ends the requests it touched, no more.

        First as many steps are submitted as may be under way, then the earliest of them is collected.

        Raises:
            EngineDeadError: further steps cannot succeed, since the device is lost or too many have failed in a row.
        """
        deltas: list[OutputDelta] = []
        failures = self._expire() + self._begin_constrained()
        while len(self._under_way) <= self._pipeline_depth:
            batch = self._scheduler.schedule()
            if batch is None:
                break
            try:
                self._submit(batch)
            except EngineDeadError:
                raise
            except Exception as error:  # noqa: BLE001 - logged where its requests are given up
                failures += self._give_up(batch, error)
                self._scheduler.withdraw(batch)
                break
        if self._under_way:
            step = self._under_way.popleft()
            try:
                self._collect(step, deltas)
            except EngineDeadError:
                raise
            except Exception as error:  # noqa: BLE001 - logged where its requests are given up
                failures += self._give_up(step.batch, error)
                self._retract(step)
        return StepOutput(tuple(deltas), failures, self.stats)

    def _submit(self, batch: ScheduledBatch) -> None:
        self._steps += 1
        started = self._clock()
        self._under_way.append(StepUnderWay(batch, self._runner.submit(batch), started))
        self._scheduler.launch(batch)

    def _collect(self, step: StepUnderWay, deltas: list[OutputDelta]) -> None:
        outcome = self._runner.collect(step.handle)
        # a step that was submitted while another was computed began when that one ended
        began, ended = max(step.started, self._collected), self._clock()
        self._collected = ended
        self._failures = 0
        self._scheduler.advance(step.batch, ended - began)
        for reading in outcome.readings:
            item = step.batch.items[reading.item]
            if not item.void:
                self._choice(item.sequence).read(reading)
        for item, sampled in zip(step.batch.items, outcome.tokens, strict=True):
            if item.void:
                continue
            item.sequence.timeline.computed(began, ended, sampled=sampled is not None)
            delta = self._delta(item, sampled, ended)
            if delta is not None:
                deltas.append(delta)
                if delta.finish is not None:
                    self._finish(item.sequence)

    def _choice(self, sequence: Sequence) -> Choice:
        return self._requests[sequence.request.request_id][sequence.choice]

    def _delta(self, item: ScheduledSequence, sampled: SampledToken | None, now: float) -> OutputDelta | None:
        """What has become certain of a choice by its share of a step that ended `now`, if anything has."""
        choice = self._choice(item.sequence)
        if sampled is not None:
            self._generated += 1
            return choice.append(sampled, now)
        if item.end == item.sequence.num_prompt and not item.sequence.samples:
            return choice.end_with_prompt(now)
        return None

    def _finish(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        request_id = sequence.request.request_id
        del self._requests[request_id][sequence.choice]
        if not self._requests[request_id]:
            del self._requests[request_id]
            self._deadlines.forget(request_id)

    def _give_up(self, batch: ScheduledBatch, error: Exception) -> tuple[RequestFailed, ...]:
        """Fail the requests of a step that failed; only some of them where the error says which are to blame.

        Raises:
            EngineDeadError: too many steps have failed in a row.
        """
        if isinstance(error, NoTokenError):
            return self._fail(error.request_ids, error)
        request_ids = list(dict.fromkeys(item.sequence.request.request_id for item in batch.items))
        # an error of a kernel says nothing of the text, and its words are needed to find its cause
        fields = {FIELDS: {"request_ids": request_ids, "error": f"{type(error).__name__}: {error}"}}
        named = ", ".join(request_ids)
        logger.error("A step failed; its requests are given up: %s", named, exc_info=error, extra=fields)
        self._failures += 1
        if self._failures == MOST_FAILURES:
            raise EngineDeadError(f"The last {MOST_FAILURES} steps of the engine have all failed.") from error
        return self._fail(request_ids, error)

    def _retract(self, failed: StepUnderWay) -> None:
        """Take back a step that could not be collected and all after it, which rest on it."""
        while self._under_way:
            self._scheduler.retract(self._under_way.pop().batch)
        self._scheduler.retract(failed.batch)

    def _expire(self) -> tuple[RequestFailed, ...]:
        """Fail the requests whose time is over."""
        expired = self._deadlines.pop_expired(self._clock())
        return self._fail(expired, DeadlineExceededError(_TIMED_OUT)) if expired else ()

    @property
    def _num_without_grammar(self) -> int:
        return sum(len(self._requests[request_id]) for request_id in self._grammars.waiting)

    def _begin_constrained(self) -> tuple[RequestFailed, ...]:
        """Queue the requests whose grammar is there by now; fail those that get none."""
        idle = not self._under_way and not self._scheduler.num_running and not self._scheduler.num_waiting
        failures: list[RequestFailed] = []
        for request_id, grammar in self._grammars.take(GRAMMAR_PATIENCE if idle else 0.0):
            if isinstance(grammar, QuireError):
                failures += self._fail([request_id], grammar)
                continue
            sequences = [choice.sequence for choice in self._requests[request_id].values()]
            for sequence in sequences:
                answer = grammar.constraint(request_id, sequence.sampling.stop_token_ids)
                sequence.constraint = self._thinking.constraint(sequence.sampling, answer)
            self._scheduler.add(sequences)
        return tuple(failures)

    def _fail(self, request_ids: Iterable[str], error: Exception) -> tuple[RequestFailed, ...]:
        """Drop these requests, as far as they have not finished. What nobody foresaw is told to the log only."""
        failed = [request_id for request_id in dict.fromkeys(request_ids) if request_id in self._requests]
        for request_id in failed:
            self.abort(request_id)
        if isinstance(error, QuireError):
            return tuple(RequestFailed(request_id, type(error).__name__, str(error)) for request_id in failed)
        message = "The engine failed on this request. Its log has the details under '{}'."
        return tuple(RequestFailed(each, RequestFailedError.__name__, message.format(each)) for each in failed)
