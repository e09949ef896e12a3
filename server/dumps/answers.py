"""What an answer of the API says, streamed or whole: for those who compare answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    """An answer's choices and its end.

    Attributes:
        error: the `error` object, where it is or ends with one.
        usage: the `usage` object, where there is one.
        texts: text of each choice, by index: its thoughts, its content and what it calls.
        finish_reasons: of each choice, by index.
    """

    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    texts: dict[int, str] = field(default_factory=dict)
    finish_reasons: dict[int, str | None] = field(default_factory=dict)

    def _add(self, body: dict[str, Any]) -> None:
        self.error = body.get("error") or self.error
        self.usage = body.get("usage") or self.usage
        for choice in body.get("choices") or ():
            index = choice.get("index", 0)
            said = choice.get("delta") or choice.get("message") or {}
            self.texts[index] = self.texts.get(index, "") + (choice.get("text") or "".join(_parts(said)))
            self.finish_reasons[index] = choice.get("finish_reason") or self.finish_reasons.get(index)


def _parts(said: dict[str, Any]) -> Iterator[str]:
    """The texts of a message or delta. Ids of calls are no part of them: they are drawn anew each time."""
    for name in ("reasoning_content", "reasoning", "content"):
        yield said.get(name) or ""
    for call in said.get("tool_calls") or ():
        function = call.get("function") or {}
        yield (function.get("name") or "") + (function.get("arguments") or "")


def read_answer(body: bytes) -> Answer:
    """Read an event stream or one JSON body; what is neither says nothing."""
    answer = Answer()
    for each in _objects(body):
        answer._add(each)
    return answer


def _objects(body: bytes) -> Iterator[dict[str, Any]]:
    lines = body.split(b"\n")
    events = [line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:")]
    for part in events or [body]:
        try:
            value = json.loads(part)
        except ValueError:  # `[DONE]`, or a body that was cut off
            continue
        if isinstance(value, dict):
            yield value
