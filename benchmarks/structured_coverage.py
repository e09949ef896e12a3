"""How much of JSON Schema is enforced, and whether what is enforced is right.

    python -m benchmarks.structured_coverage --suite DIR --bench FILE [--json FILE]

For every schema of the official test suite (https://github.com/json-schema-org/JSON-Schema-Test-Suite, a folder with
`tests/draft7` and `tests/draft2020-12`) and of a sample of JSONSchemaBench (one JSON object a line with
`schema` and `tests`) it says whether a request with it is served or refused. Of those served

* `wrong`: an instance that is not valid is accepted, or an answer drawn from the masks is not valid; must be 0.
* `stricter`: schemas of which a valid instance is not accepted: the grammar has the properties in one order, and one
  way to write a number.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import referencing.exceptions
from jsonschema.validators import validator_for

from benchmarks.machine import installed, machine
from benchmarks.report import command
from engine.constraints.base import CompiledGrammar
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_trial import try_grammar
from engine.errors import ConstraintError, InvalidRequestError
from engine.text.token_bytes import TokenBytes
from engine.types import GrammarKind, GrammarSpec

END = 256
TOKENS = TokenBytes([*(bytes([byte]) for byte in range(256)), b"</s>"], frozenset({END}))
"""A token for each byte: what a grammar accepts does not depend on how text is cut."""

WALKS, STEPS = 4, 600
CLOSING = b'"}]'
DRAFTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}


class Instance(NamedTuple):
    """A value and whether it is said to be valid."""

    value: Any
    valid: bool


class Case(NamedTuple):
    """A schema with instances."""

    name: str
    schema: Any
    instances: Sequence[Instance]


@dataclass
class Tally:
    """What was found in one collection.

    Attributes:
        refused: reasons and how many schemas each refused.
        wrong: what should not have been accepted.
    """

    schemas: int = 0
    compiled: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    stricter: int = 0
    instances: int = 0
    rejected_valid: int = 0
    doubtful: int = 0
    walks: int = 0
    whole_walks: int = 0
    unjudged: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def summary(self) -> dict[str, Any]:
        """For the report."""
        return {
            "schemas": self.schemas,
            "compiled": self.compiled,
            "refused": self.refused.total(),
            "wrong": len(self.wrong),
            "stricter": self.stricter,
            "instances": self.instances,
            "valid instances not accepted": self.rejected_valid,
            "instances whose label jsonschema contradicts": self.doubtful,
            "answers drawn": self.walks,
            "of them whole": self.whole_walks,
            "of these jsonschema cannot judge": self.unjudged,
            "slowest to compile and try, in seconds": round(self.slowest, 3),
            "refused for": dict(self.refused.most_common()),
            "wrong ones": self.wrong,
        }


def suite_cases(folder: Path) -> Iterator[Case]:
    """The official test suite; each schema says which draft it is."""
    for draft, uri in DRAFTS.items():
        for path in sorted((folder / "tests" / draft).glob("*.json")):
            for group in json.loads(path.read_text(encoding="utf-8")):
                schema = group["schema"]
                if isinstance(schema, dict):
                    schema = {"$schema": uri, **schema}
                instances = [Instance(test["data"], test["valid"]) for test in group["tests"]]
                yield Case(f"{draft}/{path.stem}: {group['description']}", schema, instances)


def bench_cases(file: Path) -> Iterator[Case]:
    """JSONSchemaBench, as it is stored: a case a line."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            yield Case(case["name"], case["schema"], [Instance(each["data"], each["valid"]) for each in case["tests"]])


def tally(cases: Iterable[Case]) -> dict[str, Any]:
    """Examine a collection."""
    compiler, found = GrammarCompiler(TOKENS, [END]), Tally()
    for case in cases:
        examine(case, compiler, found)
    return found.summary()


_PLACED = re.compile(r"'#(?:[^']*/)?(?P<keyword>[^/']*)':? (?P<fault>.*)", re.DOTALL)
"""A refusal that says where in the schema its reason is."""


def examine(case: Case, compiler: GrammarCompiler, tally: Tally) -> None:
    """Compile a schema and hold the grammar to what jsonschema says."""
    tally.schemas += 1
    began = time.perf_counter()
    try:
        grammar = compiler.compile(GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(case.schema, ensure_ascii=False)))
        try_grammar(grammar, len(TOKENS), [END])
    except InvalidRequestError as error:
        tally.refused[reason_of(error.message)] += 1
        return
    finally:
        tally.slowest = max(tally.slowest, time.perf_counter() - began)
    tally.compiled += 1
    validator = validator_for(case.schema, default=jsonschema.Draft202012Validator)
    judge = validator(case.schema, format_checker=validator.FORMAT_CHECKER)
    order = _names_in_order(case.schema)
    rejected = 0
    for instance in case.instances:
        tally.instances += 1
        accepted = any(accepts(grammar, text) for text in _spellings(instance.value, order))
        if accepted and not instance.valid:
            if _is_valid(judge, instance.value):
                tally.doubtful += 1
            else:
                tally.wrong.append(f"{case.name}: accepted {json.dumps(instance.value)[:200]}")
        rejected += instance.valid and not accepted
    tally.rejected_valid += rejected
    tally.stricter += rejected > 0
    for seed in range(WALKS):
        answer = _drawn(grammar, random.Random(seed))
        tally.walks += 1
        if answer is None:
            continue
        tally.whole_walks += 1
        verdict = _is_valid(judge, json.loads(answer))
        tally.unjudged += verdict is None
        if verdict is False:
            tally.wrong.append(f"{case.name}: answered {answer[:200]!r}")


def _is_valid(judge: Any, value: Any) -> bool | None:
    """What jsonschema says; None where it cannot read a pattern that is fine in JSON Schema, or find a reference."""
    try:
        valid: bool = judge.is_valid(value)
    except (re.error, referencing.exceptions.Unresolvable):
        return None
    return valid


def reason_of(message: str) -> str:
    """The kind of a refusal: its message without what it quotes of the schema."""
    message = message.removeprefix("The grammar cannot be used: ").removeprefix("failed to compile JSON schema: ")
    placed = _PLACED.match(message)
    if "oneOf is supported only" in message:
        return "oneOf with branches that may overlap"
    if placed and placed["keyword"] == "$ref":
        return "a reference to what is not in the schema, or to itself"
    if placed and placed["keyword"] == "format":
        return "an unknown format"
    if placed:
        unsupported = placed["fault"] == "this keyword is not supported."
        return placed["keyword"] if unsupported else f"a fault in {placed['keyword'] or 'the schema'}"
    return message.split(" for ")[0].split(" while ")[0].split(": ")[0].split(" /")[0].rstrip(".")


def _spellings(value: Any, order: Mapping[str, int]) -> list[str]:
    """Ways to write a value: with its names as they come and in the order of the schema, close and loose."""
    texts = []
    for each in (value, _ordered(value, order)):
        texts += [json.dumps(each, ensure_ascii=False, separators=(",", ":")), json.dumps(each)]
    return list(dict.fromkeys(texts))


def _ordered(value: Any, order: Mapping[str, int]) -> Any:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: order.get(name, len(order)))
        return {name: _ordered(value[name], order) for name in names}
    return [_ordered(each, order) for each in value] if isinstance(value, list) else value


def _names_in_order(schema: Any) -> dict[str, int]:
    """Every name of a property or of `required`, in the order in which the schema has them."""
    found: dict[str, int] = {}

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            for key, child in node.items():
                names = child if key in ("properties", "required") and isinstance(child, dict | list) else ()
                for name in names:
                    if isinstance(name, str):
                        found.setdefault(name, len(found))
                visit(child)
        elif isinstance(node, list):
            for child in node:
                visit(child)

    visit(schema)
    return found


def accepts(grammar: CompiledGrammar, text: str) -> bool:
    """Whether a text, in tokens of one byte each, is an answer."""
    constraint = grammar.constraint()
    try:
        for byte in text.encode("utf-8", "surrogatepass"):
            if not _allows(constraint.mask(), byte):
                return False
            constraint.advance(byte)
        return constraint.complete or _allows(constraint.mask(), END)
    except ConstraintError:
        return False


def _drawn(grammar: CompiledGrammar, draw: random.Random) -> str | None:
    """An answer drawn from the masks; None if it had not come to its end after some steps, or was given up."""
    constraint = grammar.constraint()
    answer = bytearray()
    for step in range(STEPS):
        try:
            bits = np.unpackbits(constraint.mask().view(np.uint8), count=END + 1, bitorder="little")
        except ConstraintError:
            return None
        if bits[END] and (draw.random() < 0.3 or not bits[:END].any()):
            return answer.decode()
        allowed = np.flatnonzero(bits[:END])
        closing = [each for each in CLOSING if bits[each]]
        hurry = closing and draw.random() < 0.1 + step / STEPS
        token = draw.choice(closing) if hurry else int(allowed[draw.randrange(len(allowed))])
        answer.append(token)
        constraint.advance(token)
        if constraint.complete:
            return answer.decode()
    return None


def _allows(mask: Any, token: int) -> bool:
    return bool(int(mask[token // 32]) >> token % 32 & 1)


def main() -> None:
    """Examine both collections, print the figures and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, help="folder of the JSON Schema test suite")
    parser.add_argument("--bench", type=Path, help="sample of JSONSchemaBench, as gzipped JSON lines")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--every", type=int, default=1, help="only every so manyth schema")
    arguments = parser.parse_args()
    collections: dict[str, Iterator[Case]] = {}
    if arguments.suite:
        collections["JSON Schema test suite"] = suite_cases(arguments.suite)
    if arguments.bench:
        collections["JSONSchemaBench sample"] = bench_cases(arguments.bench)
    figures = {name: tally(itertools.islice(cases, 0, None, arguments.every)) for name, cases in collections.items()}
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if arguments.json:
        versions = installed(("llguidance", "jsonschema"))
        report = {"command": command(sys.argv), "machine": machine(), "versions": versions, "figures": figures}
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
