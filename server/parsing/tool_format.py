"""A way models write tool calls: one object per format, chosen by the model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from server.parsing.base import StreamParser


class Tool(NamedTuple):
    """A function the model may call."""

    name: str
    parameters: Mapping[str, Any] | None  # JSON Schema of its arguments; None leaves them open
    strict: bool = False


MOST_CALLS = 64
"""Calls that a grammar lets stand in one answer, or in one list of an answer that is free: a model that repeats itself
comes to an end."""

Part: TypeAlias = Mapping[str, Any]
"""Of a grammar, as `engine/constraints/grammar_tree.py` reads it."""


class Demand(NamedTuple):
    """What a grammar is to ask of an answer."""

    required: bool  # it must be calls; otherwise they may come in it, and then must be whole
    parallel: bool  # it may have more than one
    special: Mapping[str, int]  # ids of the markers that are special tokens of this model
    answer: Part | None = None  # what it must look like where it has no calls; None leaves it free

    @property
    def most_calls(self) -> int:
        """How many calls may stand together."""
        return MOST_CALLS if self.parallel else 1


class ToolFormat(Protocol):
    """One way to write calls, e.g. that of Hermes: `<tool_call>{"name": …, "arguments": …}</tool_call>`."""

    @property
    def name(self) -> str:
        """What it is called in settings."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that some tokenizers have as special tokens and that must then be shown to the parser all the same."""
        ...

    def recognises(self, template: str) -> bool:
        """Whether models with this chat template write calls this way."""
        ...

    def parser(self, tools: Sequence[Tool]) -> StreamParser:
        """Reads one choice; some formats need the tools to know what the arguments mean."""
        ...

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """What an answer with calls of these tools looks like; arguments are valid against their `parameters`."""
        ...
