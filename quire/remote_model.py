"""A model behind an OpenAI-compatible HTTP API."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from engine.errors import InvalidRequestError, RequestFailedError
from engine.text.chat_template import Message
from quire.answers import AnswerPiece

TIMEOUT = httpx.Timeout(10.0, read=600.0)
"""Seconds to connect, and between two pieces of an answer: not every server sends keep-alives."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a client of a server needs to know."""

    api_key: tuple[str, ...] = field(
        default=(), repr=False, metadata={"doc": "key to send to it; of several, as a server has them, the first"}
    )


class RemoteModel:
    """A model served elsewhere. Make one with `open_remote_model`."""

    def __init__(self, client: httpx.Client, name: str, sampling: dict[str, object]) -> None:
        self._client = client
        self._name = name
        self._sampling = sampling

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return self._name

    def answer(self, messages: Sequence[Message]) -> Generator[AnswerPiece, None, None]:
        """The answer to a conversation; see `Talker.answer`."""
        body = {"model": self._name, "messages": [dict(each) for each in messages], "stream": True, **self._sampling}
        try:
            with self._client.stream("POST", "chat/completions", json=body) as response:
                _check(response)
                yield from _pieces(_lines(response.iter_bytes()))
        except httpx.HTTPError as problem:
            raise _unreachable(self._client, problem) from None
        except UnicodeEncodeError:
            raise InvalidRequestError("The message is not valid Unicode: it has a lone surrogate.") from None


@contextmanager
def open_remote_model(url: str, name: str, api_key: str, sampling: dict[str, object]) -> Iterator[RemoteModel]:
    """Talk to a server for the duration of a `with` block.

    Args:
        url: of the server, with or without `/v1` at the end.
        name: of the model; empty takes the first one the server lists.
        api_key: sent as bearer token; empty sends none.
        sampling: values of the request, by name.

    Raises:
        InvalidRequestError: the URL is none, or the server refuses the key.
        RequestFailedError: the server cannot be reached, or is none of this kind.
    """
    base = url.rstrip("/")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    if not base.startswith(("http://", "https://")):
        raise InvalidRequestError(f"{url} is no URL; write it like http://127.0.0.1:8000.")
    try:
        client = httpx.Client(base_url=base if base.endswith("/v1") else f"{base}/v1", headers=headers, timeout=TIMEOUT)
    except (httpx.InvalidURL, UnicodeEncodeError) as problem:
        raise InvalidRequestError(f"The URL or the key cannot be used: {problem}.") from None
    with client:
        yield RemoteModel(client, name or _first_model(client), sampling)


def _first_model(client: httpx.Client) -> str:
    try:
        response = client.get("models")
        _check(response)
        return str(response.json()["data"][0]["id"])
    except httpx.HTTPError as problem:
        raise _unreachable(client, problem) from None
    except (ValueError, LookupError, TypeError):
        raise RequestFailedError(f"{client.base_url} lists no models; name one with --model.") from None


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of an event stream. `httpx` would also end them at U+2028 and its like, which JSON may hold raw."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode(errors="replace") for line in lines)
    yield rest.decode(errors="replace")


def _pieces(lines: Iterator[str]) -> Iterator[AnswerPiece]:
    """The pieces in a stream of server-sent events."""
    for line in lines:
        if not line.startswith("data:"):
            continue  # comments keep the connection alive, blank lines end an event
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        event = _parse(data)
        if "error" in event:
            raise RequestFailedError(_message(event) or "The server broke off the answer.")
        for choice in event.get("choices", ()):
            delta = choice.get("delta") or {}
            # of the two names servers have for it; some send both, with the same text
            thoughts = delta.get("reasoning_content") or delta.get("reasoning") or ""
            yield AnswerPiece(delta.get("content") or "", choice.get("finish_reason"), thoughts)
    raise RequestFailedError("The connection closed before the answer was complete.")


def _parse(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise RequestFailedError(f"The server sent something that is no part of an answer: {data[:200]}")
    return event


def _check(response: httpx.Response) -> None:
    """Raise what the server's error body says, unless the answer is good."""
    if response.is_success:
        return
    response.read()
    try:
        message = _message(response.json())
    except ValueError:
        message = None
    said = message or f"The server at {response.url} answered {response.status_code} {response.reason_phrase}."
    raise InvalidRequestError(said) if response.is_client_error else RequestFailedError(said)


def _message(body: Any) -> str | None:
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else None


def _unreachable(client: httpx.Client, problem: httpx.HTTPError) -> RequestFailedError:
    what = str(problem) or type(problem).__name__
    return RequestFailedError(f"The server at {client.base_url} cannot be reached or broke off: {what}.")
