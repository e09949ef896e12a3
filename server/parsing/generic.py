"""Calls for models whose chat templates say nothing of tools: they are told how in a system message.

The notation is that of Hermes, which says plainly where a call begins and ends. A model may therefore still answer in
JSON, or write text around its calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.parsing.hermes import CLOSING, OPENING, HermesFormat
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool


class GenericFormat:
    """The `ToolFormat` of everybody else."""

    name = "generic"
    markers = HermesFormat.markers

    def __init__(self) -> None:
        self._notation = HermesFormat()

    def recognises(self, template: str) -> bool:  # noqa: ARG002  (part of the protocol)
        """Any template: this is what is left."""
        return True

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        return self._notation.parser(tools)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        return self._notation.grammar(tools, demand)

    def instructions(self, functions: Sequence[Mapping[str, Any]]) -> str:
        """What a system message has to say of tools.

        Args:
            functions: `name`, `description` and `parameters` of each, as clients send them.
        """
        example = self.written("function_name", '{"argument_name": "value"}')
        shown = "\n".join(json.dumps(each, ensure_ascii=False) for each in functions)
        return (
            "You can call functions. These are described by one JSON object each, with the JSON Schema of their "
            f"arguments under `parameters`:\n\n{shown}\n\n"
            "To call a function, write its name and its arguments as a JSON object between tags, and nothing behind it:"
            f"\n\n{example}\n\n"
            "For several calls, write several of these. The results come in the next message, between "
            "<tool_response> and </tool_response>. Where no function is needed, answer without tags."
        )

    def written(self, name: str, arguments: str) -> str:
        """A call as it stands in an answer.

        Args:
            name: of the function.
            arguments: a JSON text.
        """
        return f'{OPENING}\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}\n{CLOSING}'

    def response(self, content: str) -> str:
        """The result of a call, as it stands in a user's message."""
        return f"<tool_response>\n{content}\n</tool_response>"
