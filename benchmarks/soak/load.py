"""The mixed load of a soak run, and the judgement of everything that comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise

import httpx

from benchmarks.asking import Answer, BrokenAnswerError, Question, Reply, ask
from benchmarks.rude_clients import Rudeness, be_rude, draw_rudeness, http_request
from benchmarks.soak.questions import COMPLETION, malformed
from benchmarks.soak.record import Record

DEAD = frozenset({"engine_dead", "engine_restarting"})
"""Codes of the errors that a fault may cause."""

STALL = {"prompt": "Hello", "n": 8, "max_tokens": 1500, "ignore_eos": True, "logprobs": 20, "stream": True}
"""An answer of more bytes than all buffers on its way hold."""

THINKING_SECONDS = 0.3
"""Mean pause of a client between two requests."""


class Load:
    """Clients of all sorts.

    Args:
        client: with the server's root as its base URL.
        references: what each question is answered alone.
        record: of the run.
        draw: all chances are taken from it.
        stall_seconds: longest time a client leaves its answer unread.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        references: Mapping[int, tuple[Question, Answer]],
        record: Record,
        draw: random.Random,
        stall_seconds: float,
    ) -> None:
        self._client = client
        self._references = references
        self._record = record
        self._draw = draw
        self._stall_seconds = stall_seconds
        self._malformed = malformed()
        self._ways: Sequence[tuple[float, Callable[[], Awaitable[None]]]] = (
            (0.74, self._ask),
            (0.12, self._break_off),
            (0.06, self._cancel),
            (0.06, self._ask_nonsense),
            (0.02, self._stall),
        )

    async def one_client(self, number: int) -> None:
        """Make requests until cancelled. Clients begin in turn with each way, so that a run has all."""
        weights = [weight for weight, _ in self._ways]
        _, way = self._ways[number % len(self._ways)]
        while True:
            await way()
            ((_, way),) = self._draw.choices(self._ways, weights)
            await asyncio.sleep(self._draw.expovariate(1 / THINKING_SECONDS))

    async def burst(self, size: int) -> None:
        """Ask many questions at once, more than may wait."""
        await asyncio.gather(*(self._ask() for _ in range(size)))

    async def _ask(self) -> None:
        number = self._draw.choice(list(self._references))
        question, expected = self._references[number]
        started = time.monotonic()
        try:
            reply = await ask(self._client, question, stream=self._draw.random() < 0.6)
        except (httpx.HTTPError, BrokenAnswerError, ValueError) as problem:
            self._note_wrong(f"{question.kind}: {type(problem).__name__}: {problem}", started)
            return
        self._judge(number, question, expected, reply)

    def _judge(self, number: int, question: Question, expected: Answer, reply: Reply) -> None:
        record = self._record
        if reply.answer is not None:
            record.answers[question.kind] += 1
            record.outcomes["answered"] += 1
            if reply.answer != expected:
                record.wrong.append(
                    f"question {number} ({question.kind}) at {record.second(reply.started):.1f} s: "
                    f"{reply.answer} is not {expected}"
                )
            if len(expected.choices) == 1:
                record.gaps += [(record.second(now), now - before) for before, now in pairwise(reply.arrivals)]
        elif reply.status == 429 and reply.code == "queue_full" and int(reply.retry_after or 0) >= 1:
            record.outcomes["refused: queue full"] += 1
        elif reply.code in DEAD and record.excuses(reply.started, reply.ended):
            record.outcomes[f"failed with the engine: {reply.status} {reply.code}"] += 1
        else:
            record.wrong.append(f"{question.kind} at {record.second(reply.started):.1f} s: {reply}")

    async def _break_off(self) -> None:
        """Leave in the middle of something."""
        question, _ = self._draw.choice(list(self._references.values()))
        body = {**question.body, "stream": self._draw.random() < 0.5}
        await self._be_rude(question.path, body, draw_rudeness(self._draw), "broken off by the client")

    async def _stall(self) -> None:
        """Ask for a lot and read nothing, for longer than the server allows."""
        patience = Rudeness(lingers=self._stall_seconds, receive_buffer=4096)
        await self._be_rude(COMPLETION, STALL, patience, "never read")

    async def _be_rude(self, path: str, body: Mapping[str, object], way: Rudeness, name: str) -> None:
        started = time.monotonic()
        url = str(self._client.base_url)
        try:
            await be_rude(url, http_request(url, path, body), way)
        except TimeoutError:
            self._note_wrong(f"nothing came for a client with {way}", started)
        self._record.outcomes[name] += 1

    async def _cancel(self) -> None:
        """Give up waiting for a whole answer."""
        question, _ = self._draw.choice(list(self._references.values()))
        asking = asyncio.create_task(ask(self._client, question, stream=self._draw.random() < 0.5))
        await asyncio.wait({asking}, timeout=10 ** self._draw.uniform(-3, 0))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        self._record.outcomes["cancelled by the client"] += 1

    async def _ask_nonsense(self) -> None:
        path, content, expected = self._draw.choice(self._malformed)
        started = time.monotonic()
        try:
            response = await self._client.post(path, content=content, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as problem:
            self._note_wrong(f"malformed body: {type(problem).__name__}: {problem}", started)
            return
        dead = response.status_code == 503 and response.json()["error"]["code"] in DEAD
        if response.status_code == expected:
            self._record.outcomes[f"refused: {expected}"] += 1
        elif not (dead and self._record.excuses(started, time.monotonic())):
            self._record.wrong.append(f"{content[:80]!r} got {response.status_code} and not {expected}")

    def _note_wrong(self, what: str, started: float) -> None:
        self._record.wrong.append(f"{self._record.second(started):.1f} s: {what}")
