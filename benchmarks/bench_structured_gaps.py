"""Whether one client's grammar makes others wait: gaps between the tokens of a plain stream, alone and beside grammars.

    python -m benchmarks.bench_structured_gaps [--json FILE]

The demo model answers one stream without a grammar, over and over, while other clients send nothing, ordinary schemas,
or grammars as bad as they can be: such as take for ever to compile, or grow with every token. Each of the bad ones
differs from the others, so that no verdict is remembered.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from benchmarks.report import Row, add_report_option, report
from benchmarks.server_process import DemoServer

TOKENS = 200
PATIENCE = 120.0
CLIENTS = 3

ORDINARY = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "tags"],
    "additionalProperties": False,
}


def ordinary(_number: int) -> dict[str, Any]:
    """A schema as people send it."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": ORDINARY}}}


def bad(number: int) -> dict[str, Any]:
    """One of the bad ones, never the same."""
    letters = [chr(97 + index) for index in range(20)]
    many = [
        {"type": "string", "pattern": f"[a-z]*{letter}[a-z]{{{index}}}x{number}"}
        for index, letter in enumerate(letters)
    ]
    wide = {f"p{index}": {"type": "string", "maxLength": number + 1} for index in range(1500)}
    kinds: list[dict[str, Any]] = [
        {"guided_json": {"allOf": many}},
        {"guided_json": {"type": "object", "properties": wide, "additionalProperties": False}},
        {"guided_json": {"type": "integer", "multipleOf": 99_991 + 2 * number}},
        {"guided_json": {"type": "string", "pattern": f"(a|b)*a(a|b){{25}}c{number}", "maxLength": 3000}},
        {"guided_regex": f"(.*a){{50}}.{{0,500}}b{number}"},
        {"guided_grammar": f'start: s\ns: s s | "a" | s s s | "b{number}"'},
        {"guided_choice": [f"{'x' * 10}{number}-{index}" for index in range(6000)]},
    ]
    return kinds[number % len(kinds)]


def gaps(client: httpx.Client, url: str) -> list[float]:
    """Seconds between the chunks of one plain stream, after its first."""
    body = {"prompt": "Once upon a time", "max_tokens": TOKENS, "seed": 1, "ignore_eos": True, "stream": True}
    times = []
    with client.stream("POST", f"{url}/v1/completions", json=body) as response:
        times = [time.perf_counter() for line in response.iter_lines() if line.startswith("data: {")]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


class Others:
    """Clients that send grammars until told to stop; a context manager."""

    def __init__(self, url: str, fields: Callable[[int], dict[str, Any]] | None, numbers: Iterator[int]) -> None:
        self._url = url
        self._fields = fields
        self._numbers = numbers
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS if fields else 0)]
        self.answers: Counter[int] = Counter()

    def __enter__(self) -> Others:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            while not self._stop.is_set() and self._fields is not None:
                body = {
                    "messages": [{"role": "user", "content": "Hi"}],
                    "max_tokens": 60,
                    **self._fields(next(self._numbers)),
                }
                self.answers[client.post(f"{self._url}/v1/chat/completions", json=body).status_code] += 1


PARTS: dict[str, Callable[[int], dict[str, Any]] | None] = {
    "alone": None,
    "beside ordinary schemas": ordinary,
    "beside bad grammars": bad,
}


def _rows(name: str, found: list[float], answers: Counter[int]) -> list[Row]:
    return [
        Row(f"gap, median, {name}", statistics.median(found) * 1e3, "ms"),
        Row(f"gap, 99th percentile, {name}", found[int(len(found) * 0.99)] * 1e3, "ms"),
        Row(f"gap, longest, {name}", found[-1] * 1e3, "ms"),
        Row(f"grammars answered, {name}", float(answers[200]), ""),
        Row(f"grammars refused, {name}", float(answers[400]), ""),
    ]


def main() -> None:
    """Measure the three and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="plain streams in each part")
    add_report_option(parser)
    arguments = parser.parse_args()
    numbers = itertools.count()
    found: dict[str, list[float]] = {name: [] for name in PARTS}
    answers: dict[str, Counter[int]] = {name: Counter() for name in PARTS}
    with DemoServer("--grammar-timeout", "5").ready() as server, httpx.Client(timeout=PATIENCE) as client:
        gaps(client, server.url)
        # in turn, so that whatever else goes on on the machine meets all parts alike
        for _ in range(arguments.rounds):
            for name, fields in PARTS.items():
                with Others(server.url, fields, numbers) as others:
                    found[name] += gaps(client, server.url)
                answers[name] += others.answers
    rows = [row for name in PARTS for row in _rows(name, sorted(found[name]), answers[name])]
    report("structured_gaps", rows, arguments.json)


if __name__ == "__main__":
    main()
