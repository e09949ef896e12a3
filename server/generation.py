"""The prompts of one HTTP request on their way through the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace

from engine.errors import DeadlineExceededError, RequestFailedError
from engine.types import GenerationRequest, OutputDelta, SamplingParams, Timings
from server.cancellation import Cancellation
from server.chat.assembler import ChoiceAssembler
from server.chat.call_ids import CallIds
from server.chat.pieces import Piece
from server.chat.shown_prompt import PromptView
from server.models.served import ServedModel
from server.observability.metrics import RequestMetrics
from server.observability.recent_prompts import RecentPrompt
from server.parsing.base import PlainParser, StreamParser
from server.queue_gate import QueuePlace
from server.translate import ending_word

NO_TIME = 0.01
"""Seconds that are not worth counting."""


@dataclass(slots=True)
class Usage:
    """Tokens counted so far.

    Attributes:
        prompt_tokens: of all prompts, each counted once whatever `n`.
        cached_tokens: of these, not computed again.
        completion_tokens: of all choices.
        reasoning_tokens: of these, up to the end of the reasoning of each.
        truncated_tokens: left out of the prompts; None where none might be.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    truncated_tokens: int | None = None


class Generation:
    """Runs the prompts of one HTTP request together and assembles their choices.

    Args:
        answer_id: id of the answer, shown to the client.
        model: where they run, once it is loaded; kept as an attribute.
        requests: one per prompt, all with the same number of choices.
        places: of each prompt among those that wait.
        metrics: told what happens when.
        make_parser: makes what finds thoughts and calls in the text of a choice; None if all of it is content.
        call_ids: names the calls.
        views: what the answer shows of each prompt; None for nothing.

    Attributes:
        choices: number of choices, prompt-major: choice `k` of prompt `p` has index `p * n + k`.
        usage: grows while pieces are read.
        finish_reasons: of each choice, once it has ended; None before.
        first_token_at: when the first token came, by `time.perf_counter`.
    """

    def __init__(
        self,
        answer_id: str,
        model: ServedModel,
        requests: Sequence[GenerationRequest],
        places: Sequence[QueuePlace],
        metrics: RequestMetrics,
        make_parser: Callable[[], StreamParser] | None = None,
        call_ids: CallIds | None = None,
        views: Sequence[PromptView] | None = None,
    ) -> None:
        self.answer_id = answer_id
        self.model = model
        self._requests = requests
        self._places = places
        self._metrics = metrics
        self._make_parser = make_parser or PlainParser
        self._call_ids = call_ids or CallIds()
        self._views = views or [PromptView()] * len(requests)
        self._n = requests[0].sampling.n
        self._begun = [False] * len(requests)
        self.choices = self._n * len(requests)
        self.finish_reasons: list[str | None] = [None] * self.choices
        self.first_token_at: float | None = None
        self._remembered: RecentPrompt | None = None
        self._timings: dict[int, Timings] = {}  # of each choice, as it said last
        self._reasoning_tokens: dict[int, int] = {}  # likewise
        self._cancellation = Cancellation()
        self._over = False
        self.usage = Usage(sum(len(request.prompt_token_ids) for request in requests))

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Token ids of each prompt."""
        return [request.prompt_token_ids for request in self._requests]

    @property
    def sampling(self) -> SamplingParams:
        """How the first prompt is answered; the others differ in the seed alone, if at all."""
        return self._requests[0].sampling

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each prompt."""
        return [request.sampling.seed for request in self._requests]

    def cancel(self) -> bool:
        """As `Cancellable`."""
        self._cancellation.ask()
        return not self._over

    def remember(self, first: RecentPrompt) -> None:
        """Add the answer to the first prompt to what is remembered of it."""
        self._remembered = first

    @property
    def timings(self) -> Timings | None:
        """Where the time went in the engine, as far as it has said so: of the prompt and the choice that took longest.

        Preemptions are those of all choices together.
        """
        if not self._timings:
            return None
        prompts = [each for choice, each in self._timings.items() if choice % self._n == 0]
        return Timings(
            max((each.queue for each in prompts), default=0.0),
            max((each.prefill for each in prompts), default=0.0),
            max(each.decode for each in self._timings.values()),
            sum(each.preemptions for each in self._timings.values()),
        )

    @property
    def longest_gap(self) -> float | None:
        """Seconds of the longest silence within a choice; None where none had a second delta."""
        return self._metrics.longest_gap

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The pieces of all choices, interleaved as they come. Closing it early aborts what still runs.

        Raises:
            QuireError: as `deltas`.
        """
        assemblers = [self._assembler(index) for index in range(self.choices)]
        shown = [False] * len(self._requests)
        async with aclosing(self.deltas()) as deltas:
            async for choice, delta in deltas:
                prompt = choice // self._n
                if not shown[prompt]:  # the first delta of a prompt tells of it
                    shown[prompt] = True
                    for piece in self._shown(prompt, delta):
                        yield piece
                assembled = assemblers[choice].feed(delta)
                if delta.finish is not None:
                    self.finish_reasons[choice] = ending_word(delta.finish, calls=assemblers[choice].calls)
                if assembled is not None:
                    yield assembled

    async def deltas(self) -> AsyncGenerator[tuple[int, OutputDelta], None]:
        """What the engine says, and of which choice. Closing it early aborts what still runs.

        Raises:
            EngineDeadError, RequestFailedError, InvalidRequestError: as `EngineClient.generate`.
            ModelLoadError: the model cannot be loaded.
            RequestCancelledError: it was cancelled.
        """
        with self._metrics, self._under_way():
            async with AsyncExitStack() as stack:
                streams = await self._cancellation.wait(lambda: self._begin(stack))
                deltas = await stack.enter_async_context(aclosing(_merged(streams)))
                while (item := await self._cancellation.wait(lambda: anext(deltas, None))) is not None:
                    prompt, delta = item
                    choice = prompt * self._n + delta.choice
                    self._count(prompt, choice, delta)
                    yield choice, delta
            if None in self.finish_reasons:
                raise RequestFailedError("The engine ended the answer before it was complete. Please try again.")

    def _assembler(self, choice: int) -> ChoiceAssembler:
        view = self._views[choice // self._n]
        parser, tells_end = self._make_parser(), view.placed is not None
        return ChoiceAssembler(choice, parser, self._call_ids, start=len(view.text), tells_end=tells_end)

    def _shown(self, prompt: int, delta: OutputDelta) -> Iterator[Piece]:
        """What each choice shows of its prompt, in front of all else."""
        shown = self._views[prompt].show(delta.prompt_logprobs)
        if shown is not None:
            for choice in range(prompt * self._n, (prompt + 1) * self._n):
                yield Piece(choice, (), (), None, shown)

    async def _begin(self, stack: AsyncExitStack) -> list[AsyncIterator[OutputDelta]]:
        """Wait for the model, not longer than the request may take, and send it the prompts.

        Args:
            stack: keeps the model for as long as it is open.
        """
        began, limit = time.monotonic(), self._requests[0].timeout
        try:
            async with asyncio.timeout(limit):
                engine = await stack.enter_async_context(self.model.use())
        except TimeoutError:
            raise DeadlineExceededError(f"The model was not loaded within {limit:g} seconds.") from None
        waited = time.monotonic() - began
        if limit is None or waited < NO_TIME:
            return [engine.generate(request) for request in self._requests]
        left = max(limit - waited, NO_TIME)
        return [engine.generate(replace(request, timeout=left)) for request in self._requests]

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """At the end leave no prompt counted as waiting that was never begun."""
        try:
            yield
        finally:
            self._over = True
            for place in self._places:
                place.leave()

    def _count(self, prompt: int, choice: int, delta: OutputDelta) -> None:
        if not self._begun[prompt]:
            self._begun[prompt] = True
            self._places[prompt].begin()
            self.usage.cached_tokens += delta.cached_tokens
        self.usage.completion_tokens += len(delta.token_ids)
        self.usage.reasoning_tokens += delta.reasoning_tokens - self._reasoning_tokens.get(choice, 0)
        self._reasoning_tokens[choice] = delta.reasoning_tokens
        if self.first_token_at is None and delta.token_ids:
            self.first_token_at = time.perf_counter()
        if choice == 0 and self._remembered is not None:
            self._remembered.tokens.extend(delta.token_ids)
        if delta.timings is not None:
            self._timings[choice] = delta.timings
        if delta.finish is not None:
            self.finish_reasons[choice] = delta.finish.reason.value
        self._metrics.on_delta(choice, delta)


async def _merged(streams: Sequence[AsyncIterator[OutputDelta]]) -> AsyncGenerator[tuple[int, OutputDelta], None]:
    """Items of all streams as they come, each with the index of its stream; closing it closes all of them."""
    if len(streams) == 1:  # the usual case needs no tasks
        try:
            async for delta in streams[0]:
                yield 0, delta
        finally:
            await _close(streams[0])
        return
    queue: asyncio.Queue[tuple[int, OutputDelta] | asyncio.Task[None]] = asyncio.Queue()
    pumps = [asyncio.create_task(_pump(index, stream, queue)) for index, stream in enumerate(streams)]
    for pump in pumps:
        pump.add_done_callback(queue.put_nowait)
    running = len(pumps)
    try:
        while running:
            item = await queue.get()
            if isinstance(item, asyncio.Task):
                item.result()  # raises what the stream raised
                running -= 1
            else:
                yield item
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    index: int,
    stream: AsyncIterator[OutputDelta],
    queue: asyncio.Queue[tuple[int, OutputDelta] | asyncio.Task[None]],
) -> None:
    try:
        async for delta in stream:
            queue.put_nowait((index, delta))
    finally:
        await _close(stream)


async def _close(stream: AsyncIterator[OutputDelta]) -> None:
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
