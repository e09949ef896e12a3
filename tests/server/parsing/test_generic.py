from __future__ import annotations

from server.parsing.base import Content
from server.parsing.generic import GenericFormat
from tests.server.parsing.laws import calls_in, content_in, events_of


def test_what_models_are_told_to_write_is_what_is_read() -> None:
    generic = GenericFormat()
    written = "\n".join([generic.written('say "é"', '{"a": 1}'), generic.written("add", "{}")])
    events = events_of(generic.parser([]), [written])
    assert calls_in(events) == [('say "é"', '{"a": 1}'), ("add", "{}")]
    assert content_in(events) == ""


def test_the_instructions_show_every_function_and_a_call() -> None:
    generic = GenericFormat()
    function = {"name": "wétter", "description": "Tells.", "parameters": {"type": "object"}}
    told = generic.instructions([function, {"name": "add"}])
    assert '{"name": "wétter", "description": "Tells.", "parameters": {"type": "object"}}\n{"name": "add"}' in told
    assert calls_in(events_of(generic.parser([]), [told])) == [("function_name", '{"argument_name": "value"}')]


def test_an_answer_in_json_stays_content() -> None:
    assert events_of(GenericFormat().parser([]), ['{"name": "add", "arguments": {}}']) == [
        Content('{"name": "add", "arguments": {}}')
    ]
