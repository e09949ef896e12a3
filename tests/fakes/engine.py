"""A scripted engine, so that the whole API is tested in milliseconds and without a model."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from engine.constraints.reasoning_text import AnswerStops
from engine.errors import EngineDeadError, QuireError
from engine.stats import EngineStats
from engine.types import (
    Finish,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    OutputDelta,
    PromptLogprob,
    Timings,
    TokenLogprob,
    TopLogprob,
)

MODEL = ModelInfo(
    name="fake-model",
    path="/models/fake-model",
    architecture="LlamaForCausalLM",
    weight_format="exl2",
    bits_per_weight=4.031,
    head_bits_per_weight=6.0,
    parameters=1_234_567,
    weight_bytes=700_000,
    device="cpu",
    kernels="cpu-avx2",
    threads=2,
    vocab_size=1000,
    hidden_size=4,
    max_model_len=256,
    block_size=16,
    kv_cache_tokens=4096,
    kv_cache_bytes=1 << 20,
    kv_cache_dtype="float16",
    eos_token_ids=(2,),
    load_seconds=0.5,
)

Token = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Script:
    """What one choice answers.

    Attributes:
        tokens: id and bytes of each token.
        finish: how the choice ends; None means it never does.
        cached_tokens: reported with every delta.
        per_delta: tokens that go out together.
        timings: told with the finish.
        logprob: of every token.
        special: ids of tokens that have no text unless the request has them shown.
        end: the token that ends it, told only beside the answer.
    """

    tokens: tuple[Token, ...]
    finish: Finish | None = Finish(FinishReason.STOP)
    cached_tokens: int = 0
    per_delta: int = 1
    timings: Timings | None = Timings(0.25, 0.5, 2.0, 1)
    logprob: float = -0.25
    special: frozenset[int] = frozenset()
    end: int | None = None


def script(text: str | Sequence[bytes], **settings: object) -> Script:
    """A script from a text, one token per word, or from the bytes of each token."""
    if isinstance(text, str):
        words = [word if index == 0 else " " + word for index, word in enumerate(text.split(" "))] if text else []
        text = [word.encode() for word in words]
    return replace(Script(tuple((100 + index, data) for index, data in enumerate(text))), **settings)  # type: ignore[arg-type]


def always(what: Script) -> Callable[[GenerationRequest, int], Script]:
    """The same script for every choice of every request."""
    return lambda *_: what


@dataclass
class FakeEngine:
    """Answers every request from a script and remembers what happened.

    Attributes:
        answer: the script for a choice of a request.
        model: shown to the server.
        stats: shown to the server.
        responsive: shown to the server.
        healthy: shown to the server; also whether `generate` works.
        silent_seconds: shown to the server.
        last_failure: shown to the server.
        spell: bytes of a token of a prompt.
        delay: seconds before each step.
        gate: if set, steps wait until it is.
        failure: raised after `fail_after` deltas of a request.
        requests: everything that was asked, in order.
        aborted: ids of requests that were closed before their end.
        finished: ids of requests that ended by themselves.
    """

    answer: Callable[[GenerationRequest, int], Script] = always(script("Hello there, world!"))
    model: ModelInfo = MODEL
    stats: EngineStats = EngineStats()
    healthy: bool = True
    responsive: bool = True
    silent_seconds: float = 0.0
    last_failure: str | None = None
    spell: Callable[[int], bytes] = lambda token_id: b"%d," % token_id
    delay: float = 0.0
    gate: asyncio.Event | None = None
    failure: Exception | None = None
    fail_after: int = 0
    requests: list[GenerationRequest] = field(default_factory=list)
    aborted: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def check_available(self) -> None:
        """As `EngineClient`."""
        if not self.healthy:
            raise EngineDeadError("The engine has died.")

    async def given_up(self) -> str:
        """As `SupervisedEngine`; this engine is never given up."""
        await asyncio.Event().wait()
        return ""

    async def generate(self, request: GenerationRequest) -> AsyncIterator[OutputDelta]:
        """The scripted deltas of all choices, interleaved step by step."""
        self.check_available()
        self.requests.append(request)
        sent = 0
        try:
            async for delta in self._steps(request):
                if self.failure is not None and sent == self.fail_after:
                    raise self.failure
                sent += 1
                yield delta
        except QuireError:
            self.finished.add(request.request_id)
            raise
        finally:
            if request.request_id not in self.finished:
                self.aborted.add(request.request_id)

    async def _steps(self, request: GenerationRequest) -> AsyncIterator[OutputDelta]:
        remaining = [deltas_of(request, choice, self.answer(request, choice)) for choice in range(request.sampling.n)]
        self._tell_of_prompt(request, remaining[0])
        endless = any(not deltas or deltas[-1].finish is None for deltas in remaining)
        while any(remaining):
            await self._pause()
            for deltas in remaining:
                if deltas:
                    delta = deltas.pop(0)
                    if not any(remaining) and not endless:
                        self.finished.add(request.request_id)
                    yield delta
        if endless:
            await self.closing.wait()
            raise EngineDeadError("The engine was shut down.")

    def _tell_of_prompt(self, request: GenerationRequest, deltas: list[OutputDelta]) -> None:
        """The first delta says how likely each token of the prompt was: the k-th is the k-th likeliest, from 0 on."""
        count, ids = request.sampling.prompt_logprobs, request.prompt_token_ids
        if count is None or not deltas:
            return
        first = PromptLogprob(ids[0], self.spell(ids[0]), None, ())
        top = [[TopLogprob(900 + rank, b"other%d" % rank, -0.5 - rank) for rank in range(20)] for _ in ids]
        for rank, token_id in enumerate(ids[:20]):
            top[rank][rank] = TopLogprob(token_id, self.spell(token_id), -0.5 - rank)
        told = (
            PromptLogprob(token_id, self.spell(token_id), -0.5 - rank, tuple(top[rank][:count]))
            for rank, token_id in enumerate(ids)
        )
        deltas[0] = deltas[0]._replace(prompt_logprobs=(first, *list(told)[1:]))

    async def _pause(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(self.delay)

    async def close(self) -> None:
        """Fail what runs without end."""
        self.healthy = False
        self.closing.set()


def deltas_of(request: GenerationRequest, choice: int, what: Script) -> list[OutputDelta]:
    """A script as the engine's deltas, cut off by `max_tokens` as an engine would; the finish comes by itself."""
    limit = len(what.tokens) if request.sampling.max_tokens is None else request.sampling.max_tokens
    if request.pooling is not None:
        vector = vector_of(request.prompt_token_ids, request.pooling.dimensions)
        ended = Finish(FinishReason.STOP)
        return [OutputDelta(request.request_id, choice, (), b"", None, 0, ended, what.timings, embedding=vector)]
    hidden = what.special.difference(request.sampling.shown_special_tokens)
    if not request.sampling.skip_special_tokens:
        hidden = frozenset()
    tokens = tuple((token_id, b"" if token_id in hidden else data) for token_id, data in what.tokens[:limit])
    finish = what.finish
    if len(what.tokens) > limit:
        finish = Finish(FinishReason.LENGTH)
    deltas = []
    reasoning = _reasoning_tokens(request, tokens)
    for start in range(0, len(tokens), what.per_delta):
        group = tokens[start : start + what.per_delta]
        logprobs = tuple(_logprob(token, what.logprob, request.sampling.logprobs) for token in group)
        deltas.append(
            OutputDelta(
                request.request_id,
                choice,
                tuple(token_id for token_id, _ in group),
                b"".join(data for _, data in group),
                logprobs if request.sampling.logprobs is not None else None,
                what.cached_tokens,
                reasoning_tokens=min(reasoning, start + len(group)),
            )
        )
    if finish is not None:
        last = OutputDelta(request.request_id, choice, (), b"", None, what.cached_tokens, finish, what.timings)
        if what.end is not None and request.sampling.logprobs is not None:
            last = last._replace(end_logprob=_logprob((what.end, b""), what.logprob, request.sampling.logprobs))
        deltas.append(last._replace(reasoning_tokens=reasoning))
    return deltas


def _reasoning_tokens(request: GenerationRequest, tokens: Sequence[Token]) -> int:
    """How many of them are reasoning, by the rules of the real engine."""
    if request.sampling.reasoning is None:
        return 0
    reader = AnswerStops(request.sampling.reasoning, None)
    for number, (_, data) in enumerate(tokens, start=1):
        reader.advance(data, number)
    return reader.tokens


def vector_of(token_ids: Sequence[int], dimensions: int | None) -> bytes:
    """The vector of a prompt: four numbers that tell prompts apart, or the first of them, scaled to length 1."""
    numbers = [float(len(token_ids)), float(token_ids[0]), -float(token_ids[-1]), 1.0][:dimensions]
    length = math.hypot(*numbers)
    return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))


def _logprob(token: Token, logprob: float, alternatives: int | None) -> TokenLogprob:
    token_id, data = token
    first = TopLogprob(token_id, data, logprob)
    others = (TopLogprob(900 + rank, b"other%d" % rank, -1.0 - rank) for rank in range(20))
    return TokenLogprob(token_id, data, logprob, (first, *others)[: alternatives or 0])
