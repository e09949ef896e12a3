"""A soak run from start to end: references, load, faults, samples."""

from __future__ import annotations

import asyncio
import math
import random
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.asking import Answer, Question, ask
from benchmarks.server_process import DemoServer, ServerProcess
from benchmarks.soak.load import Load
from benchmarks.soak.questions import questions
from benchmarks.soak.record import Record
from benchmarks.soak.watch import KEEP_ALIVE_SECONDS, Watch

ANSWER_SECONDS = 120.0
"""Longest silence of the server before it counts as hung."""

STALL_TIMEOUT = 5
HANG_TIMEOUT = 8
FAULTS = (signal.SIGKILL, signal.SIGSTOP)

SERVER_SETTINGS = (
    *("--kv-cache-tokens", "4096", "--max-num-seqs", "16", "--max-queued-requests", "24"),
    *("--stall-timeout", str(STALL_TIMEOUT), "--hang-timeout", str(HANG_TIMEOUT), "--max-restarts", "1000"),
    *("--keep-alive-timeout", str(KEEP_ALIVE_SECONDS)),
    *("--log-level", "warning"),
)
"""Small on purpose: the cache runs out, the queue fills, and faults are found soon."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

    Attributes:
        seconds: of load.
        clients: that ask at the same time.
        burst_seconds: between two bursts.
        burst_size: requests of a burst.
        fault_seconds: between two faults; 0 for none. There are faults in the first half of the run alone, so that
            the last engine lives long enough to show whether its memory grows.
        seed: of all chances.
    """

    seconds: float
    clients: int = 10
    burst_seconds: float = 45.0
    burst_size: int = 60
    fault_seconds: float = 90.0
    seed: int = 1


def run(plan: Plan) -> tuple[Record, int, str]:
    """Serve the demo model, run the plan against it, and end it.

    Returns:
        What happened, the server's exit code, and what it logged.
    """
    with DemoServer(*SERVER_SETTINGS) as server:
        server.ready()
        record = asyncio.run(_run(plan, server))
        code, log = server.stop()
    return record, code, log


async def _run(plan: Plan, server: ServerProcess) -> Record:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(base_url=server.url, timeout=ANSWER_SECONDS, limits=limits) as client:
        references = await _references(client, plan.seed)
        record = Record()
        draw = random.Random(plan.seed)
        watch = Watch(server, client, record)
        load = Load(client, references, record, draw, stall_seconds=2 * STALL_TIMEOUT)
        # the process that checks grammars comes with the first of them, and stays
        await client.post("/v1/completions", json={"prompt": "Hello", "max_tokens": 1, "grammar": 'root ::= "a"'})
        await watch.rest()
        record.begin()
        faults = asyncio.create_task(_faults(watch, record, plan))
        await _for_a_while(
            plan.seconds,
            watch.every_second(),
            *(load.one_client(number) for number in range(plan.clients)),
            _bursts(load, plan),
        )
        await faults  # the last one may still have to heal
        await watch.sample()
        await watch.rest()
        for question, expected in references.values():
            reply = await ask(client, question, stream=False)
            if reply.answer != expected:
                record.wrong.append(f"after the load: {question.kind}: {reply}")
    return record


async def _references(client: httpx.AsyncClient, seed: int) -> dict[int, tuple[Question, Answer]]:
    """Every question with its answer when it is asked alone."""
    found = {}
    for number, question in enumerate(questions(seed)):
        reply = await ask(client, question, stream=False)
        if reply.answer is None:
            raise RuntimeError(f"no reference for {question}: {reply}")
        found[number] = (question, reply.answer)
    return found


async def _for_a_while(seconds: float, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs that never end, and cancel them; an error of one of them is raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _bursts(load: Load, plan: Plan) -> None:
    while True:
        await asyncio.sleep(plan.burst_seconds)
        await load.burst(plan.burst_size)


async def _faults(watch: Watch, record: Record, plan: Plan) -> None:
    """One fault after another, each kind in turn, in the first half of the run."""
    if not plan.fault_seconds:
        return
    for number in range(math.floor(plan.seconds / 2 / plan.fault_seconds)):
        await asyncio.sleep((number + 1) * plan.fault_seconds - record.now())
        await watch.fault(FAULTS[number % len(FAULTS)])
