"""Several models in one server, as it is run: switched by name, refused where broken, unloaded when nobody asks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from safetensors.torch import load_file, save_file

from tests.end_to_end.conftest import ROOT, Server
from tests.end_to_end.engine_runs import write_tiny_llama

OSLO = "The capital of Norway is Oslo."
PATIENCE = 600.0
CONFIG = """
[engine]
threads = 1
max_num_seqs = 8
kv_cache_tokens = 4096

[server]
idle_timeout = 10

[models.demo]
model = "{demo}"

[models.tiny]
model = "{folder}/tiny"
kv_cache_tokens = 512

[models.nan]
model = "{folder}/nan"

[models.truncated]
model = "{folder}/truncated"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("tiny", "nan", "truncated"):
        (folder / name).mkdir()
    write_tiny_llama(folder / "tiny")
    for name in ("nan", "truncated"):
        shutil.copytree(folder / "tiny", folder / name, dirs_exist_ok=True)
    weights = folder / "nan" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    shard = folder / "truncated" / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    file = folder / "quire.toml"
    file.write_text(CONFIG.format(folder=folder, demo=ROOT / "demo" / "quire-demo"))
    running = Server("--config", str(file))
    yield running
    code, printed = running.stop()
    assert code == 0
    assert "Traceback" not in printed


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=PATIENCE)


def children(server: Server) -> list[int]:
    """Processes of the server that live."""
    pid = server.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask(client: openai.OpenAI) -> str:
    question = [{"role": "user", "content": "What is the capital of Norway?"}]
    answer = client.chat.completions.create(model="demo", messages=question, max_tokens=32, temperature=0)  # type: ignore[call-overload]
    return str(answer.choices[0].message.content)


def ask_tiny(client: openai.OpenAI, *, stream: bool = False) -> list[int]:
    """How much came back from the other model."""
    if stream:
        chunks = client.completions.create(model="tiny", prompt=[5, 6], max_tokens=4, stream=True)
        return [len(list(chunks))]
    answer = client.completions.create(model="tiny", prompt=[5, 6], max_tokens=4)
    assert answer.model == "tiny"
    return [answer.usage.completion_tokens if answer.usage else 0]


def order(server: Server, name: str, **body: object) -> httpx.Response:
    url = server.url.removesuffix("/v1") + f"/admin/models/{name}"
    return httpx.post(url, json=body, timeout=PATIENCE)


def states(server: Server) -> dict[str, str]:
    url = server.url.removesuffix("/v1") + "/admin/models"
    return {each["id"]: each["state"] for each in httpx.get(url, timeout=PATIENCE).json()["data"]}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_models_change_with_the_names_of_requests(server: Server, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo", "tiny", "nan", "truncated"]
    assert ask(client) == OSLO
    (first,) = children(server)
    assert ask_tiny(client)
    assert ask_tiny(client, stream=True)
    (second,) = children(server)
    assert first != second
    tiny = client.models.retrieve("tiny")
    assert tiny.model_extra is not None
    assert tiny.model_extra["meta"]["kv_cache_tokens"] == 512  # its table wins over [engine]
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("other")


def test_loads_that_fail_cost_requests_of_the_running_model_nothing(server: Server, client: openai.OpenAI) -> None:
    assert ask(client) == OSLO
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(lambda: [ask(client) for _ in range(3)]) for _ in range(3)]
        (before,) = children(server)
        truncated = order(server, "load", model="truncated").json()["error"]
        assert truncated["code"] == "model_load_failed"
        assert "truncated" in truncated["message"]
        assert before in children(server)  # found by the checks: nothing was touched
        nan = order(server, "load", model="nan").json()["error"]
        assert "model.norm.weight" in nan["message"]
        assert [each.result() for each in asking] == [[OSLO] * 3] * 3
    with pytest.raises(openai.InternalServerError, match="could not be loaded") as refused:
        client.completions.create(model="nan", prompt=[5])
    assert refused.value.status_code == 503
    assert ask(client) == OSLO
    assert states(server)["nan"] == "failed"


def test_a_load_tells_how_far_it_is(server: Server) -> None:
    answer = order(server, "load", model="tiny", settings={"max_num_seqs": 3}, stream=True)
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: {")]
    stages = list(dict.fromkeys(each["stage"] for each in told))
    assert stages == ["start", "checks", "weights", "cache", "warm-up", "ready"]
    assert all(each["model"] == "tiny" and each["done"] <= each["total"] for each in told)
    error = order(server, "load", model="tiny", settings={"max_num_seq": 3}).json()["error"]
    assert "Did you mean max_num_seqs?" in error["message"]


def test_a_model_nobody_asks_for_is_unloaded_and_comes_back(server: Server, client: openai.OpenAI) -> None:
    assert ask(client) == OSLO
    (child,) = children(server)
    eventually(lambda: not children(server))
    assert not Path(f"/proc/{child}").exists()
    health = httpx.get(server.url.removesuffix("/v1") + "/health", timeout=PATIENCE)
    assert (health.status_code, health.json()["model"]) == (200, None)
    assert ask(client) == OSLO
    assert order(server, "unload").json()["data"][0]["state"] == "unloaded"
    assert not children(server)
