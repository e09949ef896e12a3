from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engine.errors import InvalidRequestError, QuireError, RequestFailedError
from quire.remote_model import open_remote_model


class Handler(BaseHTTPRequestHandler):
    """Answers as the test says."""

    answers: dict[str, tuple[int, bytes]]
    seen: list[tuple[str, str | None, Any]]

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        self.seen.append((self.path, self.headers.get("Authorization"), body))
        status, data = self.answers.get(self.path, (404, b"not here"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def server(**answers: tuple[int, bytes]) -> Iterator[tuple[str, list[tuple[str, str | None, Any]]]]:
    """A server with these answers under `/v1/models` and `/v1/chat/completions`; its URL and what it was asked."""
    paths = {"models": "/v1/models", "chat": "/v1/chat/completions"}
    members = {"answers": {paths[name]: answer for name, answer in answers.items()}, "seen": []}
    handler: Any = type("ThisHandler", (Handler,), members)
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}", handler.seen
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


MODELS = 200, b'{"data": [{"id": "m1"}, {"id": "m2"}]}'
MESSAGES = [{"role": "user", "content": "Hi"}]


def chunk(content: str | None, finish: str | None = None) -> str:
    delta = {} if content is None else {"content": content}
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}) + "\n\n"


def ask(url: str, name: str = "", key: str = "") -> list[tuple[str, str | None]]:
    with open_remote_model(url, name, key, {"temperature": 0.5}) as model:
        return [(piece.text, piece.finish_reason) for piece in model.answer(MESSAGES)]


def test_a_streamed_answer() -> None:
    stream = ": ping\n\n" + chunk("") + chunk("Hé") + chunk("llo") + chunk(None, "stop")
    usage = 'data: {"choices": [], "usage": {}}\n\n'
    with server(models=MODELS, chat=(200, (stream + usage + "data: [DONE]\n\n").encode())) as (url, seen):
        assert ask(url) == [("", None), ("Hé", None), ("llo", None), ("", "stop")]
    assert seen[1][2] == {"model": "m1", "messages": MESSAGES, "stream": True, "temperature": 0.5}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_characters_that_only_look_like_line_ends(end: str) -> None:
    text = "a\u2028b\u2029c\x85d"
    event = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)
    with server(models=MODELS, chat=(200, f"data: {event}{end}{end}data: [DONE]".encode())) as (url, _):
        assert ask(url) == [(text, None)]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_url_may_end_in_v1(suffix: str) -> None:
    with server(chat=(200, b"data: [DONE]\n\n")) as (url, seen):
        assert ask(url + suffix, name="m", key="secret") == []
    assert [each[:2] for each in seen] == [("/v1/chat/completions", "Bearer secret")]


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((400, b'{"error": {"message": "too long"}}'), InvalidRequestError, "^too long$"),
        ((503, b'{"error": {"message": "busy"}}'), RequestFailedError, "^busy$"),
        ((500, b"<html>"), RequestFailedError, "answered 500 Internal Server Error"),
        ((200, b'data: {"error": {"message": "died"}}\n\n'), RequestFailedError, "^died$"),
        ((200, chunk("He").encode()), RequestFailedError, "closed before the answer was complete"),
        ((200, b"data: oops\n\n"), RequestFailedError, "no part of an answer: oops"),
        ((200, b"data: [1]\n\n"), RequestFailedError, "no part of an answer"),
    ],
)
def test_errors_say_what_the_server_says(answer: tuple[int, bytes], kind: type[QuireError], message: str) -> None:
    with server(models=MODELS, chat=answer) as (url, _), pytest.raises(kind, match=message):
        ask(url)


@pytest.mark.parametrize("answer", [(200, b"{}"), (200, b'{"data": []}'), (200, b"hello")])
def test_a_server_without_models(answer: tuple[int, bytes]) -> None:
    with server(models=answer) as (url, _), pytest.raises(RequestFailedError, match="name one with --model"):
        ask(url)


def test_a_refused_key() -> None:
    refusal = 401, b'{"error": {"message": "Incorrect API key."}}'
    with server(models=refusal) as (url, _), pytest.raises(InvalidRequestError, match="Incorrect API key"):
        ask(url, key="wrong")


def test_nobody_there() -> None:
    with pytest.raises(RequestFailedError, match=r"http://127\.0\.0\.1:9/v1/ cannot be reached"):
        ask("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["localhost:8000", "", "http://[", "http://a b"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises((InvalidRequestError, RequestFailedError)):
        ask(url)


def test_a_message_that_is_no_unicode() -> None:
    with server(models=MODELS) as (url, _), open_remote_model(url, "", "", {}) as model:
        answer = model.answer([{"role": "user", "content": "\ud800"}])
        with pytest.raises(InvalidRequestError, match="lone surrogate"):
            next(answer)


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "I see."},
        {"reasoning": "I see.", "content": None},
        {"reasoning_content": "I see.", "reasoning": "I see.", "content": ""},
    ],
)
def test_thoughts_come_apart_by_either_name(delta: dict[str, Any]) -> None:
    thinking = "data: " + json.dumps({"choices": [{"delta": delta}]}) + "\n\n"
    end = 'data: {"choices": [{"delta": null, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    with (
        server(models=MODELS, chat=(200, (thinking + chunk("4.") + end).encode())) as (url, _),
        open_remote_model(url, "", "", {}) as model,
    ):
        pieces = list(model.answer(MESSAGES))
    assert [(piece.thoughts, piece.text) for piece in pieces] == [("I see.", ""), ("", "4."), ("", "")]
    assert pieces[-1].finish_reason == "stop"
