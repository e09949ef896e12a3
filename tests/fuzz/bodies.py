"""Bodies for POST routes, all from a seed: right ones, right ones with something wrong in them, and any bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from server.schemas.fields import REFUSED

USER = {"role": "user", "content": "Hi"}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": PERSON, "strict": True}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"name": "x"}'}}
SAMPLING: dict[str, Any] = {
    **{"model": "fake-model", "n": 2, "stream": True, "stream_options": {"include_usage": True}, "stop": ["x", "y"]},
    **{"seed": 1, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "logit_bias": {"5": -1}, "timeout": 5},
    **{"presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.1, "min_tokens": 1, "ignore_eos": False},
    **{"stop_token_ids": [1], "max_tokens": 5, "priority": 1, "user": "u", "metadata": {"a": "b"}},
}
CHATS: list[Any] = [
    {"messages": [USER]},
    {"messages": [{"role": "system", "content": "S"}, USER, {"role": "assistant", "content": "A"}, USER], **SAMPLING},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "logprobs": True, "top_logprobs": 2},
    {"messages": [USER], "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    {"messages": [USER], "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    {
        "messages": [
            USER,
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "r"},
        ],
        "tools": [TOOL],
        "stream": True,
    },
    {
        "messages": [USER],
        "reasoning_effort": "low",
        "max_completion_tokens": 9,
        "chat_template_kwargs": {"mood": "glad"},
    },
    {"messages": [USER, {"role": "assistant", "content": "A"}], "continue_final_message": True},
    {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}},
    {"messages": [USER], "response_format": {"type": "json_object"}, "stream": True},
    {"messages": [USER], "structured_outputs": {"regex": "a+"}},
    {"messages": [USER], "guided_choice": ["a", "b"]},
]
COMPLETIONS: list[Any] = [
    {"prompt": "Once"},
    {"prompt": ["a", "b"], "logprobs": 2, "echo": True, **SAMPLING},
    {"prompt": [[5, 6], [7]], "echo": True, "max_tokens": 0, "logprobs": 1},
    {"prompt": [5, 6, 7], "best_of": 2, "add_special_tokens": False},
    {"prompt": "a", "structured_outputs": {"grammar": 'start: "a"'}},
    {"prompt": "a", "suffix": "b"},
]
RIGHT: Mapping[str, list[Any]] = {
    "/v1/chat/completions": CHATS,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": [{"input": "a"}, {"input": [[5], [6]], "encoding_format": "base64", "dimensions": 2}],
    "/v1/chat/completions/render": CHATS,
    "/v1/completions/render": COMPLETIONS,
    "/v1/chat/completions/input_tokens": CHATS,
    "/v1/completions/input_tokens": COMPLETIONS,
    "/v1/requests/{request_id}/cancel": [{}],
    "/tokenize": [{"prompt": "Hi", "add_special_tokens": True}, *CHATS[:3], {"messages": [USER], "tools": [TOOL]}],
    "/detokenize": [{"tokens": [5, 6, 7], "skip_special_tokens": True}],
    "/admin/models/load": [
        {"model": "fake-model", "settings": {"max_num_seqs": 2}, "stream": True},
        {"model": "other"},
    ],
    "/admin/models/unload": [{"force": True}],
    "/admin/models/cancel": [{}],
}
"""Bodies that are right, for every POST route there is."""

_NAMES = sorted({name for bodies in RIGHT.values() for body in bodies for name in body} | REFUSED.keys() | {"unknown"})
_ODD = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        "a",
        "\x00",
        "\ud800",
        "é☃\U0001f600",
        "\u2028",
        "auto",
        "required",
        "json_schema",
        "<s>",
        "</s>",
        "a" * 2000,
    ),
    *([], {}, [[]], [None], {"": None}, {"type": "text"}, [0] * 300, {"a": {"a": {"a": []}}}),
)


def body(random: Random, path: str) -> bytes:
    """A body for a route: in one of five cases bytes of some kind, else JSON that is nearly, or quite, right."""
    right = copy.deepcopy(random.choice(RIGHT[path]))
    for _ in range(random.choice((0, 0, 1, 1, 1, 1, 2, 3))):
        right = mutated(random, right)
    encoded = json.dumps(right, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    return random.choice(_BYTES)(random, encoded) if random.random() < 0.2 else encoded


def mutated(random: Random, value: Any) -> Any:
    """The value with one thing changed, somewhere inside it."""
    inside = isinstance(value, dict | list) and value and random.random() < 0.75
    if not inside:
        return _changed(random, value)
    key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if random.random() < 0.15:
        del value[key]
    else:
        value[key] = mutated(random, value[key])
    return value


def _changed(random: Random, value: Any) -> Any:
    """Something else in place of a value, or the value with something added."""
    if isinstance(value, dict) and random.random() < 0.7:
        return {**value, random.choice(_NAMES): anything(random)}
    if isinstance(value, list) and random.random() < 0.7:
        return [*value, *random.choices([*value, anything(random)], k=random.choice((1, 2, 50)))]
    if isinstance(value, str) and random.random() < 0.5:
        cut = random.randrange(len(value) + 1)
        return value[:cut] + str(random.choice(_ODD))[:50] + value[cut:]
    if isinstance(value, int | float) and random.random() < 0.5:
        return random.choice((-value, value + 1, value * 1000, str(value), [value]))
    return anything(random)


def anything(random: Random, depth: int = 3) -> Any:
    """Any JSON value, and some that Python only takes for JSON."""
    kind = random.random()
    if depth and kind < 0.15:
        return [anything(random, depth - 1) for _ in range(random.randrange(4))]
    if depth and kind < 0.3:
        return {random.choice(_NAMES): anything(random, depth - 1) for _ in range(random.randrange(4))}
    if kind < 0.4:
        return "".join(chr(random.choice((random.randrange(128), random.randrange(0xD800)))) for _ in range(8))
    if kind < 0.5:
        return random.randrange(-(2**40), 2**40) / random.choice((1, 3))
    return copy.deepcopy(random.choice(_ODD))


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flipped(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _repeated(random: Random, data: bytes) -> bytes:
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * random.choice((1, 2, 100)) + data[end:]


def _noise(random: Random, data: bytes) -> bytes:
    return random.randbytes(len(data))


def _deep(random: Random, _data: bytes) -> bytes:
    opening, closing = random.choice(((b"[", b"]"), (b'{"messages":', b"}"), (b'{"a":[', b"]}")))
    depth = random.choice((10, 200, 5000))
    return opening * depth + b"1" + closing * random.choice((0, depth))


def _other_encoding(random: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return random.choice(
        (b"\xef\xbb\xbf" + data, text.encode("utf-16"), text.encode("utf-32"), text.encode("latin-1", "replace"))
    )


def _twice(random: Random, data: bytes) -> bytes:
    return random.choice((data + data, data + b"\n" + data, b"[" + data + b"]", b'{"stream": 1, ' + data[1:]))


_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _cut,
    _flipped,
    _repeated,
    _noise,
    _deep,
    _other_encoding,
    _twice,
)
