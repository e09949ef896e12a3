"""Any bytes to every POST route, in numbers: never a 5xx, never a hang, and the memory stays flat."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest

from benchmarks.server_process import DemoServer, anonymous_memory, eventually
from engine.config import EngineConfig
from engine.errors import ConfigError
from server.app import create_app_for
from server.config import ServerConfig
from server.models.catalogue import Catalogue, DeclaredModel
from server.models.registry import Models
from tests.api.test_access import SCOPES
from tests.fakes.engine import MODEL, FakeEngine
from tests.fakes.text import TEMPLATE, write_model_text
from tests.fuzz.asking import Answer, ask, check
from tests.fuzz.bodies import RIGHT, body

TOOLS_AND_THOUGHTS = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools><tool_call></tool_call>{% endif %}{# <think></think> #}"
)
CONTENT_TYPES = ("application/json",) * 30 + (
    "application/json; charset=utf-16",
    "text/plain",
    "",
    "multipart/form-data",
)
MIB = 1 << 20


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log: pytest would keep every line of it in memory."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Served:
    """An application with one model that calls tools and thinks, loaded on a scripted engine whenever it is wanted.

    Args:
        directory: for the model's files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = write_model_text(directory, TEMPLATE + TOOLS_AND_THOUGHTS)
        (directory / "config.json").write_text('{"vocab_size": 300, "max_position_embeddings": 4096}')
        self._engine = FakeEngine()
        config = ServerConfig()
        declared = DeclaredModel(("fake-model",), self._configure)
        self.models = Models(Catalogue((declared,), "fake-model"), self._start, config)
        self.app = create_app_for(self.models, config)

    def _configure(self, given: Mapping[str, object]) -> EngineConfig:
        wrong = {name for name, value in given.items() if name != "max_num_seqs" or type(value) is not int}
        if wrong:
            raise ConfigError(f"'settings.{min(wrong)}' cannot be used.")
        return EngineConfig(str(self._directory), "fake-model", **given)  # type: ignore[arg-type]

    async def _start(
        self, _: EngineConfig, *, when_checked: Callable[[], Awaitable[None]], **_options: object
    ) -> FakeEngine:
        await when_checked()
        self._engine = FakeEngine(model=replace(MODEL, max_model_len=4096))
        return self._engine

    def forget(self) -> None:
        """What the scripted engine remembers, which would grow."""
        for memory in (self._engine.requests, self._engine.finished, self._engine.aborted):
            memory.clear()


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def address(path: str) -> str:
    return path.replace("{request_id}", "chatcmpl-1")


async def fuzz(served: Served, cases: int, random: Random) -> Counter[tuple[str, int]]:
    """Ask every route in turn; how often each answered with which status."""
    seen: Counter[tuple[str, int]] = Counter()
    paths = list(RIGHT)
    for case in range(cases):
        path = paths[case % len(paths)]
        content = body(random, path)
        answer: Answer | str = "no answer"
        try:
            answer = await ask(served.app, address(path), content, random.choice(CONTENT_TYPES))
            check(answer)
        except Exception as error:
            raise AssertionError(f"case {case}: POST {path} {content[:2000]!r}: {answer}") from error
        seen[path, answer.status] += 1
        served.forget()
    return seen


def test_every_post_route_is_tried() -> None:
    assert {path for method, path in SCOPES if method == "POST"} == RIGHT.keys()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quiet")
def test_1000_bodies(served: Served) -> None:
    async def run() -> Counter[tuple[str, int]]:
        try:
            return await fuzz(served, 1000, Random(1))
        finally:
            await served.models.close()

    seen = asyncio.run(run())
    for path in RIGHT:
        assert {200, 400} <= {status for each, status in seen if each == path} or "{" in path, (path, seen)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quiet")
def test_20000_bodies_and_the_memory_stays_flat(served: Served) -> None:
    async def run() -> int:
        try:
            await fuzz(served, 5_000, Random(2))  # until caches are full
            gc.collect()
            before = anonymous_memory(os.getpid())
            await fuzz(served, 20_000, Random(3))
            gc.collect()
            return anonymous_memory(os.getpid()) - before
        finally:
            await served.models.close()

    grown = asyncio.run(run())
    print(f"grown by {grown / MIB:.1f} MiB")
    assert grown < 16 * MIB


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_500_bodies_to_a_real_server() -> None:
    random = Random(4)
    paths = [path for path in RIGHT if not path.startswith("/admin")]  # it would unload the model
    with (
        DemoServer("--max-model-len", "64", "--served-model-name", "fake-model") as server,
        httpx.Client(base_url=server.ready().url, timeout=600) as client,
    ):

        def some(cases: int) -> None:
            for case in range(cases):
                path = paths[case % len(paths)]
                content = body(random, path)
                kind = {"Content-Type": random.choice(CONTENT_TYPES)}
                response = client.post(address(path), content=content, headers=kind)
                try:
                    check(Answer(response.status_code, response.headers, response.content))
                except Exception as error:
                    raise AssertionError(f"case {case}: POST {path} {content[:2000]!r}") from error

        some(250)
        pids = [server.process.pid, *server.children()]
        before = [anonymous_memory(pid) for pid in pids]
        some(500)
        eventually(lambda: server.metric("num_requests_running") == 0 == server.metric("kv_cache_usage_perc"))
        assert pids == [server.process.pid, *server.children()]  # nothing has died meanwhile
        grown = [anonymous_memory(pid) - each for pid, each in zip(pids, before, strict=True)]
        print(f"server and engine grown by {[round(each / MIB, 1) for each in grown]} MiB")
        assert max(grown) < 32 * MIB
        assert "Traceback" not in server.log
