"""Dumps of one server, sent to another."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.errors import ConfigError, RequestFailedError
from engine.types import GenerationRequest
from quire.commands import replay
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.fakes.engine import MODEL, FakeEngine, Script, always, script
from tests.fakes.http import serving
from tests.fakes.text import model_text

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of Norway?"}]
BODIES: list[dict[str, Any]] = [
    {"messages": QUESTION},
    {"messages": QUESTION, "stream": True, "n": 2, "max_tokens": 2},
    {"messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}},
    {"messages": [{"role": "nobody", "content": "x"}]},
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    return model_text(tmp_path_factory.mktemp("fake-model"))


def by_seed(request: GenerationRequest, choice: int) -> Script:
    """An answer that only the same seed gives again."""
    return script(f"seed {request.sampling.seed} choice {choice}")


@pytest.fixture
def dumped(text: ModelText, tmp_path: Path) -> Path:
    """The folder of dumps, content kept, of `BODIES`."""
    return make_dumps(text, tmp_path / "dumps", dump_content=True)


def make_dumps(
    text: ModelText,
    folder: Path,
    bodies: list[dict[str, Any]] = BODIES,
    engine: FakeEngine | None = None,
    **settings: Any,
) -> Path:
    with serving(
        create_app(engine or FakeEngine(by_seed), text, ServerConfig(dump_requests=str(folder), **settings))
    ) as url:
        for body in bodies:
            httpx.post(f"{url}{CHAT}", json=body)
        deadline = time.monotonic() + 600
        while len(list(folder.glob("*.json"))) < len(bodies):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return folder


def replayed(engine: FakeEngine, text: ModelText, *arguments: str, **settings: Any) -> int:
    with serving(create_app(engine, text, ServerConfig(**settings))) as url:
        return replay.run([*arguments, "--base-url", f"{url}/v1"])


def test_what_is_as_it_was(dumped: Path, text: ModelText, capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine(by_seed)
    assert replayed(engine, text, str(dumped)) == 0
    printed = capsys.readouterr().out
    assert printed.count("same ") == 4
    assert "4 as before, 0 otherwise, 0 skipped" in printed


def test_what_is_not(dumped: Path, text: ModelText, capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed(FakeEngine(lambda *_: script("something else")), text, str(dumped)) == 1
    printed = capsys.readouterr().out
    assert printed.count("DIFFERS") == 3
    assert "text of choice 0: differs from character 1 on: 'eed " in printed
    assert "completion tokens: 4 then, 2 now" in printed
    assert "3 otherwise" in printed


def test_a_failure_that_is_gone_and_one_that_is_new(
    dumped: Path, text: ModelText, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = FakeEngine(by_seed, failure=RequestFailedError("It failed."), fail_after=1)
    assert replayed(broken, text, str(dumped)) == 1
    printed = capsys.readouterr().out
    assert "status: 200 then, 500 now" in printed
    assert "error: none then, request_failed now" in printed


def test_filler_is_compared_as_far_as_it_goes(
    text: ModelText, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_dumps(text, tmp_path / "dumps")
    assert "Norway" not in "".join(each.read_text() for each in folder.iterdir())
    assert replayed(FakeEngine(lambda *_: script("something else")), text, str(folder)) == 0
    assert "the dump has filler" in capsys.readouterr().out


def test_requests_with_tools(text: ModelText, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function = {"name": "look", "arguments": '{"canary": "canary", "seed": 4711}'}
    body = {
        "messages": [
            *QUESTION,
            {"role": "assistant", "tool_calls": [{"id": "canary", "function": function}]},
            {"role": "tool", "tool_call_id": "canary", "content": "canary"},
        ],
        "tools": [{"type": "function", "function": {"name": "look"}}],
    }
    model = replace(MODEL, max_model_len=4096)
    call = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    for content in (True, False):
        folder = tmp_path / str(content)
        make_dumps(text, folder, [body], engine=FakeEngine(always(script(call)), model), dump_content=content)
        (written,) = (each.read_text() for each in folder.iterdir())
        assert ("canary" in written) == ("4711" in written) == content
        assert json.loads(written)["generation"]["finish_reasons"] == ["tool_calls"]
        assert replayed(FakeEngine(always(script(call)), model), text, str(folder)) == 0
    assert "prompt tokens are not compared" in capsys.readouterr().out


def test_requests_can_be_sent_together_and_as_they_came(dumped: Path, text: ModelText) -> None:
    engine = FakeEngine(by_seed)
    assert replayed(engine, text, str(dumped), "--concurrency", "4") == 0
    assert replayed(engine, text, str(dumped), "--keep-timing") == 0
    assert len(engine.requests) == 6


def test_key_and_model_can_be_others(dumped: Path, text: ModelText, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"api_key": ("k",), "served_model_name": ("other",)}
    assert replayed(FakeEngine(by_seed), text, str(dumped), "--api-key", "k", "--model", "other", **settings) == 0
    assert replayed(FakeEngine(by_seed), text, str(dumped), **settings) == 1
    assert "error: none then, invalid_api_key now" in capsys.readouterr().out


def test_a_server_that_is_not_there(dumped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.run([str(dumped), "--base-url", "http://127.0.0.1:1"]) == 1
    assert "no answer: " in capsys.readouterr().out


def test_what_was_no_json_is_skipped(dumped: Path, text: ModelText, capsys: pytest.CaptureFixture[str]) -> None:
    file = sorted(dumped.iterdir())[0]
    file.write_text(json.dumps({**json.loads(file.read_text()), "body": None}))
    assert replayed(FakeEngine(by_seed), text, str(file)) == 0
    assert "0 as before, 0 otherwise, 1 skipped" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "quire-request-dump", "version": 99}'])
def test_what_is_no_dump_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ConfigError, match=r"a\.json"):
        replay.run([str(tmp_path), "--base-url", "http://127.0.0.1:1"])


@pytest.mark.parametrize(
    "arguments",
    [["x.json"], ["--base-url", "http://a", "--concurrency", "0", "x.json"], ["/nothing", "--base-url", "u"]],
)
def test_command_lines_that_are_wrong(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        replay.run(arguments)
