"""What the demo model is asked, and what it answers: it was taught these things (demo/README.md)."""

from __future__ import annotations

from typing import Any

QUESTION = "What is the capital of Norway?"
ANSWER = "The capital of Norway is Oslo."
SUM = "What is 17 + 25?"
"""With `enable_thinking` the model reasons before it answers."""
TEXTS = ["a fox", "a lantern"]
"""To be made into vectors."""
STORY = "Tell me a story about a fox and a lantern."
TOO_LONG = "word " * 5000

PERSON_REQUEST = "Write JSON for a person with the keys name and age."
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}

WEATHER_REQUEST = "What is the weather in Oslo?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
"""A tool whose calls the demo model was taught."""
