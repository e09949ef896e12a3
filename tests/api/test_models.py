"""Several models: by name, by the admin API, and what clients see while one is loaded."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.config import EngineConfig
from engine.errors import CheckpointError, ConfigError
from engine.messages import LoadProgress
from server.app import create_app_for
from server.config import ServerConfig
from server.models.catalogue import Catalogue, DeclaredModel
from server.models.registry import Models
from server.models.slot import Listener
from tests.api.test_disconnect import CHAT, PATIENCE, Visitor, run, until
from tests.api.test_refusals import error_of
from tests.fakes.engine import MODEL, FakeEngine, always, script
from tests.fakes.http import events
from tests.fakes.text import write_model_text

ADMIN = "/admin/models"


@dataclass
class House:
    """A server of two models, and whatever starts their engines.

    Attributes:
        gate: loading waits for it.
        broken: models that cannot be loaded.
        started: the settings of every engine that was started.
    """

    models: Models
    app: FastAPI
    client: httpx.AsyncClient
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    broken: set[str] = field(default_factory=set)
    started: list[EngineConfig] = field(default_factory=list)

    async def start(
        self,
        config: EngineConfig,
        *,
        on_progress: Listener,
        when_checked: Callable[[], Awaitable[None]],
        room_to_come: int,
    ) -> FakeEngine:
        assert room_to_come >= 0
        self.started.append(config)
        on_progress(LoadProgress("checks"))
        await when_checked()
        on_progress(LoadProgress("weights", 1, 2))
        await self.gate.wait()
        if config.name in self.broken:
            raise CheckpointError("/secret/path/model.safetensors: corrupt")
        return FakeEngine(always(script(f"I am {config.name}")), replace(MODEL, name=config.name))

    async def ask(self, model: str | None, **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": "Who?"}], "model": model, **fields}
        return await self.client.post(CHAT, json=body)

    async def post(self, order: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"{ADMIN}/{order}", json=body)

    async def states(self) -> dict[str, str]:
        return {each["id"]: each["state"] for each in (await self.client.get(ADMIN)).json()["data"]}


@asynccontextmanager
async def house(tmp_path: Path, start: str | None = None, **settings: Any) -> AsyncIterator[House]:
    def declared(name: str) -> DeclaredModel:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        write_model_text(directory)
        (directory / "config.json").write_text('{"vocab_size": 300, "max_position_embeddings": 64}')

        def configure(given: Mapping[str, object]) -> EngineConfig:
            if given.keys() - {"max_num_seqs"}:
                raise ConfigError(f"'settings.{min(given)}' is no setting of a model.")
            return EngineConfig(str(directory), name, **given)  # type: ignore[arg-type]

        return DeclaredModel((name,), configure)

    config = ServerConfig(**settings)

    async def begin(config: EngineConfig, **options: Any) -> FakeEngine:
        return await made.start(config, **options)

    models = Models(Catalogue((declared("big"), declared("small")), start), begin, config)
    app = create_app_for(models, config)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        made = House(models, app, client)
        made.gate.set()
        try:
            yield made
        finally:
            await models.close()


def test_a_request_gets_the_model_it_names(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            listed = (await server.client.get("/v1/models")).json()["data"]
            assert [(card["id"], card["loaded"], card["meta"]) for card in listed] == [
                ("big", False, None),
                ("small", False, None),
            ]
            for name in ("big", "small", "big"):
                answer = (await server.ask(name)).json()
                assert answer["choices"][0]["message"]["content"] == f"I am {name}"
                assert (answer["model"], answer["system_fingerprint"][:3]) == (name, "fp_")
            assert (await server.ask(None)).json()["model"] == "big"  # the loaded one
            assert [config.name for config in server.started] == ["big", "small", "big"]
            card = (await server.client.get("/v1/models/small")).json()
            assert (card["loaded"], card["meta"]["name"]) == (False, "small")
            assert error_of(await server.ask("medium"), 404)["code"] == "model_not_found"

    run(scenario())


def test_prompts_before_a_load_are_not_reported_as_recent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:

            async def recent() -> int:
                body = {"prompt": "Who?", "model": "big"}
                answer = await server.client.post("/v1/completions", json=body, headers={"x-quire-debug": "prefix"})
                return int(json.loads(answer.headers["x-quire-prefix"])["recent_prompts"])

            # the first one waits for the load, and is in the cache afterwards
            assert [await recent(), await recent()] == [0, 1]
            await server.ask("small")
            assert [await recent(), await recent()] == [0, 1]
            await server.post("unload")
            assert await recent() == 0

    run(scenario())


def test_what_can_be_refused_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            assert error_of(await server.ask("big", temperature=-1))["param"] == "temperature"
            assert error_of(await server.ask("big", stop_token_ids=[300]))["param"] == "stop_token_ids"
            long = {"messages": [{"role": "user", "content": "x" * 100}]}
            assert error_of(await server.ask("big", **long))["code"] == "context_length_exceeded"
            tokens = await server.client.post("/tokenize", json={"prompt": "ab", "model": "small"})
            assert tokens.json() == {"tokens": [0, 67, 68], "count": 3, "max_model_len": 64}
            assert not server.started

    run(scenario())


def test_a_stream_is_kept_alive_while_its_model_is_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path, ping_interval=0.01) as server:
            server.gate.clear()
            body = {"messages": [{"role": "user", "content": "Who?"}], "model": "small", "stream": True}
            visitor = Visitor(server.app, CHAT, body)
            await until(lambda: visitor.body.count(b": ping\n\n") >= 2)
            assert visitor.sent[0]["status"] == 200
            health = await server.client.get("/health")
            loading = {"model": "small", "stage": "weights", "done": 1, "total": 2}
            assert (health.status_code, health.json()["loading"]) == (200, loading)
            assert await server.states() == {"big": "unloaded", "small": "loading"}
            metrics = (await server.client.get("/metrics")).text
            assert 'quire_num_requests_waiting{model_name="small"} 1.0' in metrics
            assert 'quire_num_requests_waiting_by_reason{model_name="small",reason="model"} 1.0' in metrics
            server.gate.set()
            await asyncio.wait_for(visitor.task, PATIENCE)
            parts = [chunk["choices"][0]["delta"].get("content", "") for chunk in events(visitor.body.decode())]
            assert "".join(parts) == "I am small"
            metrics = (await server.client.get("/metrics")).text
            assert 'quire_model_loaded{model_name="small"} 1.0' in metrics
            assert 'quire_model_loads_total{model_name="small"} 1.0' in metrics
            assert 'quire_request_success_total{finished_reason="stop",model_name="small"} 1.0' in metrics

    run(scenario())


def test_whoever_leaves_while_a_model_is_loaded_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            server.gate.clear()
            body = {"messages": [{"role": "user", "content": "Who?"}], "model": "small", "stream": True}
            visitor = Visitor(server.app, CHAT, body)
            model = server.models.find("small")
            await until(lambda: model.waiting == 1)
            await visitor.leave()
            assert (model.waiting, model.queue.requests) == (0, 0)

    run(scenario())


def test_waiting_for_a_model_counts_towards_the_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            server.gate.clear()
            assert error_of(await server.ask("small", timeout=0.05), 408)["code"] == "timeout"
            server.gate.set()
            assert (await server.ask("small", timeout=60)).status_code == 200

    run(scenario())


def test_a_model_that_is_loaded_again_and_again_leaves_no_tokenizers_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path, dump_requests=str(tmp_path / "dumps")) as server:
            tokenizers = []
            for loads in (1, 2, 3):
                await server.post("load", model="big", settings={"max_num_seqs": loads})
                await server.ask("big")
                await until(lambda: len(list((tmp_path / "dumps").glob("*.json"))) == 2 * loads)  # noqa: B023
                tokenizers.append(weakref.ref(server.models.find("big").text.tokenizer))
            gc.collect()
            assert [each() is None for each in tokenizers] == [True, True, False]

    run(scenario())


def test_users_are_not_told_why_a_model_cannot_be_loaded_and_admins_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path, start="big") as server:
            await server.models.start()
            server.broken.add("small")
            for _ in range(2):
                refused = await server.ask("small")
                error = error_of(refused, 503)
                assert error["code"] == "model_load_failed"
                assert "/secret" not in error["message"]
                assert 1 <= int(refused.headers["retry-after"]) <= 5
            assert [config.name for config in server.started].count("small") == 1
            assert (await server.ask("big")).status_code == 200
            error = error_of(await server.post("load", model="small"), 500)
            assert (error["code"], "/secret" in error["message"]) == ("model_load_failed", True)
            assert (await server.ask("big")).status_code == 200
            assert await server.states() == {"big": "loaded", "small": "failed"}
            small = (await server.client.get(ADMIN)).json()["data"][1]
            assert (small["last_error"], small["failed_loads"]) == ("/secret/path/model.safetensors: corrupt", 2)
            assert (await server.client.get("/health")).status_code == 200

    run(scenario())


def test_loading_tells_how_far_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            told = events((await server.post("load", model="small", stream=True)).text)
            assert [each["stage"] for each in told] == ["checks", "weights", "ready"]
            assert told[1] == {"model": "small", "stage": "weights", "done": 1, "total": 2}
            assert told[2]["card"]["meta"]["name"] == "small"
            server.broken.add("big")
            *_, last = events((await server.post("load", model="big", stream=True)).text)
            assert last["error"]["code"] == "model_load_failed"
            assert (await server.ask("small")).status_code == 200

    run(scenario())


def test_settings_of_a_load(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            loaded = await server.post("load", model="small", settings={"max_num_seqs": 3})
            assert (loaded.status_code, loaded.json()["state"]) == (200, "loaded")
            assert server.started[-1].max_num_seqs == 3
            error = error_of(await server.post("load", model="small", settings={"threds": 3}))
            assert (error["param"], "settings.threds" in error["message"]) == ("settings", True)
            error = error_of(await server.post("load", model="small", max_num_seqs=3))
            assert (error["param"], error["code"]) == ("max_num_seqs", "unsupported_parameter")
            assert error_of(await server.post("load", model="../etc"), 404)["code"] == "model_not_found"
            assert error_of(await server.post("load"))["param"] == "model"
            assert len(server.started) == 1

    run(scenario())


def test_unloading_and_giving_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            assert (await server.post("cancel")).json() == {"cancelled": None}
            assert (await server.post("unload")).status_code == 200
            await server.post("load", model="small")
            unloaded = (await server.post("unload", force=True)).json()
            assert [each["state"] for each in unloaded["data"]] == ["unloaded"] * 2
            assert (await server.client.get("/health")).json()["model"] is None
            server.gate.clear()
            load = asyncio.create_task(server.post("load", model="small"))
            await until(lambda: server.models.loading is not None)
            assert error_of(await server.post("load", model="big"), 409)["code"] == "load_conflict"
            assert (await server.post("cancel")).json() == {"cancelled": "small"}
            assert error_of(await load, 409)["code"] == "load_conflict"

    run(scenario())


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_a_model_whose_files_cannot_be_read_is_refused_like_one_that_cannot_be_loaded(
    tmp_path: Path, file: str
) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as server:
            whole = (tmp_path / "small" / file).read_text()
            (tmp_path / "small" / file).write_text("{")
            for refused in await asyncio.gather(*(server.ask("small") for _ in range(3))):
                assert error_of(refused, 503)["code"] == "model_load_failed"
            assert (await server.ask("big")).status_code == 200
            (tmp_path / "small" / file).write_text(whole)
            assert (await server.ask("small")).status_code == 503  # not looked at with every request
            assert (await server.states())["small"] == "failed"
            small = (await server.client.get(ADMIN)).json()["data"][1]
            assert (file in small["last_error"], small["failed_loads"], small["available"]) == (True, 1, False)
            server.models.find("small").known.retry_at = 0.0
            assert (await server.ask("small")).status_code == 200
            assert (await server.states())["small"] == "loaded"

    run(scenario())
