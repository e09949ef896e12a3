"""What a soak run asks: requests whose whole answer is determined, so that any other answer is wrong."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.asking import Question

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"

_ANIMALS = ("fox", "crow", "badger", "lamb", "otter", "hedgehog")
_THINGS = ("lantern", "kite", "boat", "drum", "letter", "clock")
_COUNTRIES = ("Norway", "Peru", "Japan", "Kenya", "Spain", "Chile")


QUESTIONS_PER_KIND = 4


def sentences(draw: random.Random, words: int) -> str:
    """Plain text of about so many words."""
    return " ".join(
        f"The {draw.choice(_ANIMALS)} gave the {draw.choice(_ANIMALS)} a {draw.choice(_THINGS)} at dawn."
        for _ in range(words // 10)
    )


def questions(seed: int) -> list[Question]:
    """The questions of a run: each kind several times, with different contents."""
    draw = random.Random(seed)
    shared = "You are a helpful assistant. " + sentences(draw, 200)
    found: list[Question] = []
    for index in range(QUESTIONS_PER_KIND):
        animal, thing, country = _ANIMALS[index], _THINGS[index], _COUNTRIES[index]
        story = f"Tell me a story about a {animal} and a {thing}."
        capital = f"What is the capital of {country}?"
        found += [
            _chat("chat", story, max_tokens=120),
            _chat("chat", capital, max_tokens=40),
            _chat("shared prefix", capital, shared, max_tokens=40),
            _chat("shared prefix", story, shared, max_tokens=60),
            _chat("three choices", story, n=3, temperature=1.0, seed=index, max_tokens=60),
            _chat("log-probabilities", capital, logprobs=True, top_logprobs=5, max_tokens=40),
            _chat("stop strings", story, stop=["One windy", ". T", thing], max_tokens=100),
            _completion("completion", f"Once upon a time a {animal}", max_tokens=80, ignore_eos=True),
            _completion("log-probabilities", f"The {animal} and the", logprobs=3, max_tokens=30),
            _completion("two prompts", [f"The {animal}", f"A {thing}"], n=2, seed=index, temperature=0.8),
            _completion("long prompt", sentences(draw, 700 + 150 * index), max_tokens=24, ignore_eos=True),
            _completion("long answer", f"A {thing} is", max_tokens=400, ignore_eos=True),
        ]
    return found


def malformed() -> list[tuple[str, bytes, int]]:
    """Bodies that are refused: path, content, and the status they must get."""
    return [
        (CHAT, b'{"messages": [{"role": "user", "content": "Hel', 400),
        (CHAT, b'{"messages": "hello"}', 400),
        (CHAT, b'{"messages": [{"role": "user", "content": "Hello"}], "temperature": "hot"}', 400),
        (CHAT, b'{"messages": [{"role": "user", "content": "Hello"}], "model": "gpt-nothing"}', 404),
        (CHAT, b"\xff\xfe\x00", 400),
        (COMPLETION, b'{"prompt": "Hello", "max_tokens": -1}', 400),
        (COMPLETION, b'{"prompt": [1, 2, 999999]}', 400),
        (COMPLETION, b'{"prompt": "%s"}' % (b"word " * 5000), 400),
        (COMPLETION, b'{"prompt": "Hello", "n": 4097}', 400),
        (COMPLETION, b'{"prompt": "Hello", "grammar": "root"}', 400),
    ]


def _chat(kind: str, content: str, system: str = "", **fields: Any) -> Question:
    messages = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return Question(kind, CHAT, {"messages": messages, "temperature": 0, **fields})


def _completion(kind: str, prompt: Any, **fields: Any) -> Question:
    return Question(kind, COMPLETION, {"prompt": prompt, "temperature": 0, **fields})
