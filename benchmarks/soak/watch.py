"""Looks at both processes once a second, and does faults to the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import httpx

from benchmarks.server_process import ServerProcess, anonymous_memory, open_files, summed
from benchmarks.soak.record import Fault, Idle, Record, Sample

HEAL_SECONDS = 120.0
"""Longest time until an engine must have been replaced."""

KEEP_ALIVE_SECONDS = 10
"""How long the server keeps a connection on which nothing is asked: longer than `httpx`, the client, keeps it."""


class Watch:
    """Sees a server from outside.

    Args:
        server: is running.
        client: with the server's root as its base URL.
        record: of the run.
    """

    def __init__(self, server: ServerProcess, client: httpx.AsyncClient, record: Record) -> None:
        self._server = server
        self._client = client
        self._record = record

    async def every_second(self) -> None:
        """Take a sample each second until cancelled."""
        while True:
            started = time.monotonic()
            await self.sample()
            await asyncio.sleep(max(0.0, started + 1.0 - time.monotonic()))

    async def sample(self) -> None:
        """Note what both processes hold and do."""
        figures = await self._figures()
        server, engine = self._server.process.pid, next(iter(self._server.children()), 0)
        try:
            engine_bytes, engine_files = (anonymous_memory(engine), open_files(engine)) if engine else (0, 0)
        except (OSError, ValueError):  # it has just ended
            engine, engine_bytes, engine_files = 0, 0, 0
        self._record.samples.append(
            Sample(
                at=self._record.now(),
                server_bytes=anonymous_memory(server),
                server_files=open_files(server),
                engine_pid=engine,
                engine_bytes=engine_bytes,
                engine_files=engine_files,
                running=int(figures["num_requests_running"]),
                waiting=int(figures["num_requests_waiting"]),
                cache_used=figures["kv_cache_usage_perc"],
                generated=int(figures["generation_tokens_total"]),
                restarts=int(figures["engine_restarts_total"]),
                preemptions=int(figures["num_preemptions_total"]),
            )
        )

    async def _figures(self) -> dict[str, float]:
        return summed((await self._client.get("/metrics")).text)

    async def rest(self) -> None:
        """Wait until nothing is left of the load, and note what the processes then hold.

        Raises:
            TimeoutError: something is left.
        """
        async with asyncio.timeout(HEAL_SECONDS):
            while True:
                figures = await self._figures()
                used = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
                if self._server.children() and not any(figures[name] for name in used):
                    break
                await asyncio.sleep(0.1)
        await asyncio.sleep(KEEP_ALIVE_SECONDS + 1)
        self._record.idle.append(Idle(open_files(self._server.process.pid), open_files(self._server.child)))

    async def fault(self, kind: signal.Signals) -> None:
        """Send the engine a signal and wait until another engine has taken its place.

        Raises:
            TimeoutError: none has.
        """
        fault = Fault(kind.name, self._record.now())
        self._record.faults.append(fault)
        os.kill(self._server.child, kind)
        async with asyncio.timeout(HEAL_SECONDS):
            while fault.healed is None:
                healthy = (await self._client.get("/health")).status_code == 200
                if not healthy and fault.noticed is None:
                    fault.noticed = self._record.now()
                if healthy and fault.noticed is not None:
                    fault.healed = self._record.now()
                await asyncio.sleep(0.02)
