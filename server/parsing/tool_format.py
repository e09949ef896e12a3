"""A way models write tool calls: one object per format, chosen by the model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from server.parsing.base import StreamParser


class Tool(NamedTuple):
    """A function the model may call."""

    name: str
    parameters: Mapping[str, Any] | None  # JSON Schema of its arguments; None leaves them open
    strict: bool = False


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
