"""Whether a request ended as it did before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quire.replay.dump_file import Dump
from quire.replay.send import Outcome

CLIENT_LEFT = 499
EMBEDDINGS = "/v1/embeddings"
"""Whose answers have neither texts nor reasons to end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of one request.

    Attributes:
        differences: what is not as it was.
        notes: what could not be compared, and why.
    """

    differences: tuple[str, ...]
    notes: tuple[str, ...]


def compare(dump: Dump, outcome: Outcome) -> Verdict:
    """Compare what became of a request then and now.

    Where the dump's texts are filler the model answers something else, so that only status, error and the number of
    prompt tokens can be asked to be the same; where several seeds were drawn, the texts cannot be either.
    """
    if outcome.status is None:
        return Verdict((f"no answer: {outcome.problem}",), ())
    if dump.status == CLIENT_LEFT:
        return Verdict(
            (), (f"the client had left after {dump.seconds:.1f} s; this time the status is {outcome.status}",)
        )
    return Verdict(tuple(_differences(dump, outcome)), tuple(_notes(dump)))


def _differences(dump: Dump, outcome: Outcome) -> Iterator[str]:
    error, usage = (outcome.answer.error or {}).get("code"), outcome.answer.usage or {}
    yield from _differs("status", dump.status, outcome.status)
    yield from _differs("error", dump.error, error)
    if dump.status != 200 or outcome.status != 200 or dump.error or error:
        return
    if usage and not _filled_names(dump):
        yield from _differs("prompt tokens", dump.prompt_tokens, usage.get("prompt_tokens"))
    if dump.path == EMBEDDINGS or not dump.content_kept or not dump.reproducible or not all(dump.finish_reasons):
        return
    reasons = [outcome.answer.finish_reasons[index] for index in sorted(outcome.answer.finish_reasons)]
    yield from _differs("finish reasons", list(dump.finish_reasons), reasons)
    if usage:
        yield from _differs("completion tokens", dump.completion_tokens, usage.get("completion_tokens"))
    texts = [outcome.answer.texts[index] for index in sorted(outcome.answer.texts)]
    for index, (then, now) in enumerate(zip(dump.texts or (), texts, strict=False)):
        yield from _text_differs(f"text of choice {index}", then, now)


def _notes(dump: Dump) -> Iterator[str]:
    if dump.prompt_tokens is None:
        return
    if _filled_names(dump):
        yield "prompt tokens are not compared: names of tools and properties are filler of another length"
    if not dump.content_kept:
        yield "texts, finish reasons and completion tokens are not compared: the dump has filler for the texts"
    elif not dump.reproducible:
        yield "texts are not compared: each prompt had a seed of its own"
    elif not all(dump.finish_reasons):
        yield "texts are not compared: the answer was broken off"


def _filled_names(dump: Dump) -> bool:
    """Whether the prompt has names that are filler: unlike other filler they are not as long as the original."""
    body = dump.body or {}
    calls = any(isinstance(each, dict) and each.get("tool_calls") for each in body.get("messages") or ())
    return not dump.content_kept and bool(body.get("tools") or calls)


def _differs(what: str, then: Any, now: Any) -> Iterator[str]:
    if (then is not None and then != now) or (then is None and what == "error" and now is not None):
        yield f"{what}: {_shown(then)} then, {_shown(now)} now"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return "none" if value is None else str(value)


def _text_differs(what: str, then: str, now: str) -> Iterator[str]:
    if then != now:
        pairs = enumerate(zip(then, now, strict=False))
        same = next((index for index, (one, other) in pairs if one != other), min(len(then), len(now)))
        shown = slice(same, same + 40)
        yield f"{what}: differs from character {same} on: {then[shown]!r} then, {now[shown]!r} now"
