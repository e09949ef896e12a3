"""Plain `httpx`, over a real connection: what clients without an SDK do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.config import ServerConfig
from tests.fakes.engine import FakeEngine, always, script
from tests.fakes.http import serving
from tests.fakes.text import model_text

ODD = "a\u2028b\u2029c\x85d\x0be\x1cf\\\u2028"
"""Every kind of character at which somebody's line ends."""


def test_events_are_single_lines_by_anybodys_idea_of_a_line(tmp_path: Path) -> None:
    app = create_app(FakeEngine(always(script([ODD.encode()]))), model_text(tmp_path), ServerConfig())
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    content = ""
    with serving(app) as url, httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            assert not line or line.startswith("data: ")
            if line.startswith("data: {"):
                delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
                content += delta.get("content", "")
    assert content == ODD


@pytest.mark.parametrize(
    ("path", "body", "content"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hi"}]},
            lambda answer: answer["choices"][0]["message"]["content"],
        ),
        ("/v1/completions", {"prompt": "Hi"}, lambda answer: answer["choices"][0]["text"]),
        ("/v1/completions", {"prompt": "Hi", "logprobs": 0}, lambda a: a["choices"][0]["logprobs"]["tokens"][0]),
        ("/detokenize", {"tokens": []}, lambda answer: answer["prompt"]),
    ],
)
def test_bodies_are_single_lines_too(
    tmp_path: Path, path: str, body: dict[str, Any], content: Callable[[Any], str]
) -> None:
    text = model_text(tmp_path)
    if path == "/detokenize":
        body = {"tokens": text.tokenizer.encode(ODD, add_special_tokens=False)}
    with serving(create_app(FakeEngine(always(script([ODD.encode()]))), text, ServerConfig())) as url:
        response = httpx.post(f"{url}{path}", json=body)
    assert len(response.text.splitlines()) == 1
    assert content(response.json()) == ODD


def test_a_list_of_models_is_a_single_line(tmp_path: Path) -> None:
    config = ServerConfig(served_model_name=("m\u2028",))
    with serving(create_app(FakeEngine(), model_text(tmp_path), config)) as url:
        response = httpx.get(f"{url}/v1/models")
    assert len(response.text.splitlines()) == 1
    assert response.json()["data"][0]["id"] == "m\u2028"
