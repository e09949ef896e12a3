"""How answers look on the wire: the JSON of chat and of legacy completions, streamed and whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engine.types import Finish
from server.chat.pieces import Piece, WholeChoice
from server.generation import Usage
from server.parsing.base import Arguments, CallBegins, Content, Thought
from server.translate import PlacedLogprob, chat_logprobs, completion_logprobs, finish_reason, prompt_logprobs
from server.wire_json import text_to_json, to_json

TEXT = "\0"
"""Stands for the text in a choice that is made into JSON once."""


class AnswerFormat(Protocol):
    """Writes one answer, either as a stream of chunks or whole."""

    def chunks(self, piece: Piece) -> list[bytes]:
        """The chunks that show a piece, each the JSON of one event."""
        ...

    def usage_chunk(self, usage: Usage) -> bytes:
        """The last chunk, which counts tokens."""
        ...

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        ...


class Envelope:
    """What every chunk of an answer repeats, made into JSON once.

    Args:
        answer_id: e.g. `chatcmpl-…`; the same in all chunks.
        created: Unix seconds.
        model: name to show.
        fingerprint: `system_fingerprint`.
        include_usage: the stream ends with a usage chunk, and the other chunks say `"usage": null`.
    """

    def __init__(self, answer_id: str, created: int, model: str, fingerprint: str, *, include_usage: bool) -> None:
        self._fields = {"created": created, "model": model, "system_fingerprint": fingerprint}
        self._id = answer_id
        self._tail = b',"usage":null}' if include_usage else b"}"

    def head(self, kind: str) -> bytes:
        """The beginning of an object of this kind, up to the value of `choices`."""
        return to_json({"id": self._id, "object": kind, **self._fields})[:-1] + b',"choices":'

    def chunk(self, head: bytes, choice: dict[str, Any]) -> bytes:
        """A chunk that adds to one choice."""
        return b"".join((head, b"[", to_json(choice), b"]", self._tail))

    def chunk_around_text(self, head: bytes, choice: dict[str, Any]) -> tuple[bytes, bytes]:
        """What stands before and after the text in chunks of a choice that differ in nothing else.

        Args:
            head: as for `chunk`.
            choice: has `TEXT` where the text is to stand.
        """
        before, _, after = self.chunk(head, choice).rpartition(to_json(TEXT))
        return before, after

    def closing(
        self, head: bytes, choices: Sequence[dict[str, Any]], usage: Usage, more: Mapping[str, Any] | None = None
    ) -> bytes:
        """A chunk or whole answer with usage, and with what else such an answer has."""
        return b"".join((head, to_json(choices), b",", to_json({"usage": _usage(usage), **(more or {})})[1:]))


class ChatFormat:
    """`chat.completion` and `chat.completion.chunk`.

    Args:
        envelope: of this answer.
        logprobs: whether log-probabilities were asked for.
        thoughts: field that holds the reasoning. It is never in two, since clients show both.
    """

    def __init__(self, envelope: Envelope, *, logprobs: bool, thoughts: str = "reasoning_content") -> None:
        self._envelope = envelope
        self._logprobs = logprobs
        self._thoughts = thoughts
        self._head = envelope.head("chat.completion.chunk")
        self._begun: dict[int, _BegunChoice] = {}

    def chunks(self, piece: Piece) -> list[bytes]:
        """The role first, once per choice; then what there is; then an empty delta with the finish reason."""
        chunks = []
        choice = self._begun.get(piece.choice)
        if choice is None:
            choice = self._begun[piece.choice] = _BegunChoice(self._envelope, self._head, piece.choice, self._thoughts)
            chunks.append(choice.role(calls=bool(piece.events) and isinstance(piece.events[0], CallBegins)))
        logprobs = piece.logprobs
        for event in piece.events:
            if isinstance(event, Content):
                chunks.append(choice.content(event.text, logprobs if self._logprobs else None))
                logprobs = ()
            else:
                chunks.append(choice.other(event))
        if logprobs:
            chunks.append(choice.content("", logprobs))
        if piece.finish is not None:
            chunks.append(choice.ending(piece.finish))
        return chunks

    def usage_chunk(self, usage: Usage) -> bytes:
        """A chunk without choices."""
        return self._envelope.closing(self._head, [], usage)

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        shown = [self._whole_choice(index, choice) for index, choice in enumerate(choices)]
        return self._envelope.closing(self._envelope.head("chat.completion"), shown, usage, _listed(choices[0]))

    def _whole_choice(self, index: int, choice: WholeChoice) -> dict[str, Any]:
        return {
            "index": index,
            "message": _message(choice, self._thoughts),
            "logprobs": chat_logprobs(choice.logprobs) if self._logprobs else None,
            **_ending(choice.finish, calls=bool(choice.calls)),
        }


class _BegunChoice:
    """Writes the chunks of one choice of a chat. What comes once per token is put between ready-made parts.

    Args:
        envelope: of the answer.
        head: of its chunks.
        index: of the choice.
        thoughts: as in `ChatFormat`.
    """

    def __init__(self, envelope: Envelope, head: bytes, index: int, thoughts: str) -> None:
        self._envelope = envelope
        self._head = head
        self._index = index
        self._content = self._around({"content": TEXT})
        self._thoughts = thoughts
        self._thought: tuple[bytes, bytes] | None = None
        self._arguments: tuple[bytes, bytes] | None = None  # of the latest call
        self._calls = 0

    def role(self, *, calls: bool) -> bytes:
        """The first chunk, which says null for the content if the answer begins with a call."""
        return self._chunk({"role": "assistant", "content": None if calls else "", "refusal": None})

    def content(self, text: str, logprobs: Sequence[PlacedLogprob] | None) -> bytes:
        """Content, with log-probabilities if they were asked for."""
        if logprobs is None:
            return text_to_json(text).join(self._content)
        return self._chunk({"content": text}, chat_logprobs(logprobs))

    def other(self, event: Thought | CallBegins | Arguments) -> bytes:
        """What is no content. Id, type and name of a call stand in its first chunk alone, since clients join what they
        get of a call."""
        match event:
            case Thought(text):
                self._thought = self._thought or self._around({self._thoughts: TEXT})
                return text_to_json(text).join(self._thought)
            case CallBegins(name, call_id):
                call = _call(call_id or "", name, "")
                self._arguments = None
                self._calls += 1
                return self._chunk({"tool_calls": [{"index": self._calls - 1, **call}]})
            case Arguments(text):
                more = {"tool_calls": [{"index": self._calls - 1, "function": {"arguments": TEXT}}]}
                self._arguments = self._arguments or self._around(more)
                return text_to_json(text).join(self._arguments)

    def ending(self, finish: Finish) -> bytes:
        """The last chunk."""
        choice = {"index": self._index, "delta": {}, "logprobs": None, **_ending(finish, calls=self._calls > 0)}
        return self._envelope.chunk(self._head, choice)

    def _around(self, delta: dict[str, Any]) -> tuple[bytes, bytes]:
        return self._envelope.chunk_around_text(self._head, _delta(self._index, delta))

    def _chunk(self, delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> bytes:
        return self._envelope.chunk(self._head, _delta(self._index, delta, logprobs))


class CompletionFormat:
    """`text_completion`, the same object for chunks and whole answers.

    Args:
        envelope: of this answer.
        logprobs: whether log-probabilities were asked for.
    """

    def __init__(self, envelope: Envelope, *, logprobs: bool) -> None:
        self._envelope = envelope
        self._logprobs = logprobs
        self._head = envelope.head("text_completion")
        self._around: dict[int, tuple[bytes, bytes]] = {}  # of the choices that have begun

    def chunks(self, piece: Piece) -> list[bytes]:
        """The prompt, if it is echoed; text as it comes; then an empty text with the finish reason."""
        chunks = []
        text = piece.text
        if piece.prompt is not None and (piece.prompt.text or piece.prompt.logprobs):
            placed = completion_logprobs(piece.prompt.logprobs) if self._logprobs else None
            chunks.append(self._envelope.chunk(self._head, _addition(piece.choice, piece.prompt.text, placed)))
        if self._logprobs and (text or piece.logprobs):
            choice = _addition(piece.choice, text, completion_logprobs(piece.logprobs))
            chunks.append(self._envelope.chunk(self._head, choice))
        elif text:
            chunks.append(text_to_json(text).join(self._around_text(piece.choice)))
        if piece.finish is not None:
            choice = {"index": piece.choice, "text": "", "logprobs": None, **_ending(piece.finish)}
            chunks.append(self._envelope.chunk(self._head, choice))
        return chunks

    def _around_text(self, index: int) -> tuple[bytes, bytes]:
        around = self._around.get(index)
        if around is None:
            around = self._envelope.chunk_around_text(self._head, _addition(index, TEXT))
            self._around[index] = around
        return around

    def usage_chunk(self, usage: Usage) -> bytes:
        """A chunk without choices."""
        return self._envelope.closing(self._head, [], usage)

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        shown = [self._whole_choice(index, choice) for index, choice in enumerate(choices)]
        return self._envelope.closing(self._head, shown, usage)

    def _whole_choice(self, index: int, choice: WholeChoice) -> dict[str, Any]:
        echoed, before = ("", ()) if choice.prompt is None else (choice.prompt.text, choice.prompt.logprobs)
        return {
            "index": index,
            "text": echoed + "".join(choice.content),
            "logprobs": completion_logprobs([*before, *choice.logprobs]) if self._logprobs else None,
            **_ending(choice.finish),
            **_listed(choice),
        }


def _listed(choice: WholeChoice) -> dict[str, Any]:
    """vLLM's `prompt_logprobs`, where it was asked for."""
    if choice.prompt is None or choice.prompt.listed is None:
        return {}
    return {"prompt_logprobs": prompt_logprobs(choice.prompt.listed)}


def _addition(index: int, text: str, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}


def _delta(index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _message(choice: WholeChoice, thoughts: str) -> dict[str, Any]:
    """The message; what it does not have is left out, except that an answer without anything has empty content."""
    content = "".join(choice.content)
    message: dict[str, Any] = {"role": "assistant", "content": content if content or not choice.calls else None}
    if choice.thoughts:
        message[thoughts] = "".join(choice.thoughts)
    message |= {"refusal": None, "annotations": []}
    if choice.calls:
        message["tool_calls"] = [_call(call.call_id, call.name, "".join(call.arguments)) for call in choice.calls]
    return message


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _ending(finish: Finish | None, *, calls: bool = False) -> dict[str, Any]:
    """`stop_reason` is vLLM's addition: the stop string or token id that matched, null for the model's own end."""
    if finish is None:
        return {"finish_reason": None, "stop_reason": None}
    return {"finish_reason": finish_reason(finish, calls=calls), "stop_reason": finish.stop}


def _usage(usage: Usage) -> dict[str, Any]:
    truncated = {} if usage.truncated_tokens is None else {"truncated_tokens": usage.truncated_tokens}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0, **truncated},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
