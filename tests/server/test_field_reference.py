from __future__ import annotations

from pathlib import Path

from server.field_reference import HEAD, field_reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api-fields.md"


def rows() -> list[list[str]]:
    return [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in field_reference().removeprefix(HEAD).splitlines()
    ]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == field_reference(), (
        "run: python -m server.field_reference > docs/api-fields.md"
    )


def test_every_field_says_what_it_is() -> None:
    assert [row[0] for row in rows() if not all(row) or len(row) != 4] == []


def test_fields_of_all_bodies_are_there_at_any_depth() -> None:
    found = {row[0]: row[1:3] for row in rows()}
    assert found["`messages[].content[].text`"] == ["chat, tokenize", "string"]
    assert found["`tool_choice.allowed_tools.tools[].function.name`"] == ["chat, tokenize", "string"]
    assert found["`response_format.json_schema.schema`"] == ["chat, completions", "object or boolean"]
    assert found["`top_logprobs`"] == ["chat", "integer from 0 to 20"]
    assert found["`timeout`"] == ["chat, completions, embeddings", "number above 0 to 1e+06"]
    assert found["`force`"] == ["unload", "boolean"]
    assert found["`seed`"] == ["chat, completions", "integer"]
