"""Tools for the tests of formats that need their schemas."""

from __future__ import annotations

import json

from server.parsing.base import StreamParser
from server.parsing.tool_format import Tool, ToolFormat
from tests.server.parsing.laws import Call, calls_in, content_in, events_of

WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "units": {"anyOf": [{"enum": ["C", "F"]}, {"type": "null"}]},
            "alerts": {"type": "boolean"},
            "places": {"type": "array", "items": {"type": "object"}},
        },
    },
)
WRITE = Tool("write_file", {"properties": {"path": {"type": "string"}, "content": {"type": "string"}}})
TIME = Tool("get_time", None)
TOOLS = [WEATHER, WRITE, TIME]


def parser_of(format_: ToolFormat) -> StreamParser:
    """A parser for these tools."""
    return format_.parser(TOOLS)


def calls_of(format_: ToolFormat, text: str) -> list[Call]:
    """The calls in a text, with the text of their arguments."""
    return calls_in(events_of(parser_of(format_), [text]))


def values_of(format_: ToolFormat, text: str) -> list[tuple[str, object]]:
    """The calls in a text that has nothing else, with the values of their arguments."""
    events = events_of(parser_of(format_), [text])
    assert content_in(events) == ""
    return [(name, json.loads(arguments)) for name, arguments in calls_in(events)]
