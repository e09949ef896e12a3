from __future__ import annotations

from server.parsing.schema_annotations import without_annotations


def test_words_go_and_rules_stay() -> None:
    schema = {
        "description": "A thing.",
        "type": "object",
        "properties": {
            "description": {"type": "string", "description": "What it is.", "default": "x", "minLength": 1},
            "title": {"enum": [{"title": "kept"}], "title": "A title"},
        },
        "$defs": {"default": {"const": {"description": "kept"}, "examples": [1]}},
        "anyOf": [{"title": "One", "required": ["title"]}, True],
        "additionalProperties": {"$comment": "no", "items": [{"type": "null", "title": "None"}]},
    }
    assert without_annotations(schema) == {
        "type": "object",
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "title": {"enum": [{"title": "kept"}]},
        },
        "$defs": {"default": {"const": {"description": "kept"}}},
        "anyOf": [{"required": ["title"]}, True],
        "additionalProperties": {"items": [{"type": "null"}]},
    }
