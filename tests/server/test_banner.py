from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import EngineConfig
from server.banner import banner, base_url
from server.config import ServerConfig
from server.models.catalogue import Catalogue, DeclaredModel
from server.models.registry import Models, around
from tests.fakes.engine import MODEL, FakeEngine
from tests.fakes.text import TEMPLATE, model_text

URL = "http://127.0.0.1:8000/v1"


def models(tmp_path: Path, config: ServerConfig, template: str | None = TEMPLATE) -> Models:
    return around(FakeEngine(model=replace(MODEL, name="it's")), model_text(tmp_path, template), config)


def test_says_what_a_person_wants_to_know(tmp_path: Path) -> None:
    config = ServerConfig(served_model_name=("mine", "alias"))
    text = banner(models(tmp_path, config), config, URL)
    for fact in (
        "mine, alias (LlamaForCausalLM, 1.23M parameters)",
        "exl2, 4.03 bits per weight (head 6.00)",
        "cpu, 2 threads",
        "cpu-avx2",
        "4,096 tokens, 1.0 MiB (float16)",
        "256 tokens",
        "http://127.0.0.1:8000/v1",
    ):
        assert fact in text


@pytest.mark.parametrize("chat", [True, False])
def test_the_curl_line_can_be_pasted(chat: bool, tmp_path: Path) -> None:
    config = ServerConfig(api_key=("secret",))
    text = banner(models(tmp_path, config, TEMPLATE if chat else None), config, URL)
    assert "secret" not in text
    line = next(line for line in text.splitlines() if "curl" in line)
    words = shlex.split(line)
    assert words[1].endswith("/v1/chat/completions" if chat else "/v1/completions")
    assert json.loads(words[-1])["model"] == "it's"
    assert "Authorization: Bearer YOUR_KEY" in words


def test_without_a_loaded_model_it_says_how_one_gets_loaded() -> None:
    async def start(*_: object, **__: object) -> FakeEngine:
        raise AssertionError("nothing is to be started")

    declared = tuple(DeclaredModel((name,), lambda _: EngineConfig()) for name in ("big", "small"))
    text = banner(Models(Catalogue(declared), start, ServerConfig()), ServerConfig(), URL)
    assert "declared   big, small" in text
    assert "the first request that names it" in text
    none = banner(Models(Catalogue(()), start, ServerConfig()), ServerConfig(), URL)
    assert "POST http://127.0.0.1:8000/admin/models/load" in none


def test_urls() -> None:
    assert base_url("0.0.0.0", 80) == "http://127.0.0.1:80/v1"
    assert base_url("0.0.0.0", 443, tls=True) == "https://127.0.0.1:443/v1"
    assert base_url("::1", 8000) == "http://[::1]:8000/v1"
    assert base_url("box.lan", 8000) == "http://box.lan:8000/v1"
