"""`quire chat --url`, as its user sees it on a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest

from quire.cli import main
from tests.quire.test_remote_model import MODELS, chunk, server

STEERING = "\x1b]0;owned\x07\x9b2J"


def converse(url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Type `Hi` into a conversation on a terminal; its exit status."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n"))
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    return main(["chat", "--url", url])


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


def test_a_conversation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stream = chunk("Hel") + chunk("lo") + chunk(None, "stop") + "data: [DONE]\n\n"
    with server(models=MODELS, chat=(200, stream.encode())) as (url, _):
        assert converse(url, monkeypatch) == 0
    captured = capsys.readouterr()
    assert captured.out == "Hello\n"
    assert captured.err.startswith("m1. ")


THINKING = (
    'data: {"choices": [{"delta": {"reasoning_content": "I see.\\u001b[2J"}}]}\n\n' + chunk("4.") + "data: [DONE]\n\n"
).encode()


def test_thoughts_are_dim_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with server(models=MODELS, chat=(200, THINKING)) as (url, _):
        assert converse(url, monkeypatch) == 0
    dim, plain = "\x1b[2m", "\x1b[22m"
    out = capsys.readouterr().out
    assert out == f"{dim}[thinking]\nI see.\ufffd[2J{plain}{dim}\n[answer]\n{plain}4.\n"


def test_thoughts_are_only_labelled_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n"))
    with server(models=MODELS, chat=(200, THINKING)) as (url, _):
        assert main(["chat", "--url", url]) == 0
    assert capsys.readouterr().out == "[thinking]\nI see.\x1b[2J\n[answer]\n4.\n"


@pytest.mark.parametrize(
    ("models", "answer", "status"),
    [
        (200, (200, chunk(f"the text{STEERING}").encode() + b"data: [DONE]\n\n"), 0),
        (200, (400, error(f"the text{STEERING}")), 0),
        (401, (404, b""), 1),
    ],
)
def test_a_server_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: int,
    answer: tuple[int, bytes],
    status: int,
) -> None:
    listed = {"data": [{"id": f"the model{STEERING}"}], "error": {"message": f"the text{STEERING}"}}
    with server(models=(models, json.dumps(listed).encode()), chat=answer) as (url, _):
        assert converse(url, monkeypatch) == status
    shown = "".join(capsys.readouterr())
    assert "the text\ufffd]0;owned" in shown
    assert ("the model\ufffd]0;owned" in shown) == (status == 0)
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
