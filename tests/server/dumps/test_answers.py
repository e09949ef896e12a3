from __future__ import annotations

import json
from typing import Any

from server.dumps.answers import read_answer


def call(**function: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": function}]}


def test_the_texts_of_an_answer_have_its_thoughts_its_content_and_its_calls() -> None:
    said = {"reasoning_content": "Hm. ", "content": "Yes. "}
    message = {**said, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    whole = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    deltas = [{"role": "assistant", "content": None}, *({name: text} for name, text in said.items())]
    deltas += [call(name="f", arguments=""), call(arguments="{"), call(arguments="}"), {}]
    streamed = "".join(f"data: {json.dumps({'choices': [{'index': 0, 'delta': each}]})}\n\n" for each in deltas)
    for body in (whole, streamed):
        assert read_answer(body.encode()).texts == {0: "Hm. Yes. f{}"}
