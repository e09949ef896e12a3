"""Real tools and calls through every notation.

    python -m benchmarks.tool_calls --data FILE [--json FILE] [--every N]

The data are the Berkeley function-calling leaderboard's (`bfcl_eval/data` of https://github.com/ShishirPatil/gorilla,
as a tar file): functions and the calls that are expected. For each notation it says

* `read back`: answers with the expected calls that the parser reads as just these, of `answers`; all should be, but
  where a notation leaves it to the schema what a text means, only those with valid arguments;
* `accepted`: of `valid` answers, whose arguments jsonschema finds valid, those that the grammar for required calls
  allows. It has properties in the order of the schema only, so the arguments are put into it.

And of all schemas, how many become a grammar, and what the others are refused for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema

from benchmarks.machine import installed, machine
from benchmarks.report import command
from benchmarks.structured_coverage import END, TOKENS, accepts, reason_of
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_trial import try_grammar
from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec
from server.parsing.base import Arguments, CallBegins, Content, joined
from server.parsing.grammar_text import grammar_text
from server.parsing.table import choose
from server.parsing.tool_format import Demand, Tool, ToolFormat

FILES = tuple(
    f"{prefix}{name}"
    for prefix, names in (
        ("BFCL_v4_", ("simple_python", "multiple", "parallel", "parallel_multiple")),
        ("BFCL_v4_live_", ("simple", "multiple", "parallel", "parallel_multiple")),
    )
    for name in names
)
TYPES = {"dict": "object", "float": "number", "tuple": "array"}

Call = tuple[str, Mapping[str, Any]]


class Case(NamedTuple):
    """The functions of a question and the calls that answer it."""

    tools: Sequence[Tool]
    calls: Sequence[Call]


def _object(call: Call, key: str) -> str:
    return json.dumps({"name": call[0], key: call[1]}, ensure_ascii=False)


def _list(calls: Sequence[Call]) -> str:
    return f"[{', '.join(_object(call, 'arguments') for call in calls)}]"


def _tagged(calls: Sequence[Call]) -> str:
    return "\n".join(f"<tool_call>\n{_object(call, 'arguments')}\n</tool_call>" for call in calls)


def _named(calls: Sequence[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(values, ensure_ascii=False)}" for name, values in calls)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _function_tags(call: Call) -> str:
    name, values = call
    parameters = "".join(f"<parameter={key}>\n{_text(value)}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def _seed_tags(call: Call) -> str:
    name, values = call
    parameters = "".join(f"<parameter={key}>{_text(value)}</parameter>\n" for key, value in values.items())
    return f"<seed:tool_call>\n<function={name}>\n{parameters}</function>\n</seed:tool_call>"


def _invocations(calls: Sequence[Call]) -> str:
    def one(name: str, values: Mapping[str, Any]) -> str:
        parameters = (f'<parameter name="{key}">{_text(value)}</parameter>\n' for key, value in values.items())
        return f'<invoke name="{name}">\n{"".join(parameters)}</invoke>\n'

    return f"<minimax:tool_call>\n{''.join(one(*call) for call in calls)}</minimax:tool_call>"


def _section(calls: Sequence[Call]) -> str:
    each = (
        f"<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>"
        f"{json.dumps(values, ensure_ascii=False)}<|tool_call_end|>"
        for index, (name, values) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{''.join(each)}<|tool_calls_section_end|>"


def _actions(calls: Sequence[Call]) -> str:
    each = (
        json.dumps({"tool_call_id": str(index), "tool_name": name, "parameters": values}, ensure_ascii=False)
        for index, (name, values) in enumerate(calls)
    )
    return "<|START_ACTION|>[\n    " + ",\n    ".join(each) + "\n]<|END_ACTION|>"


def _keys_and_values(call: Call) -> str:
    name, values = call
    pairs = (f"<arg_key>{key}</arg_key>\n<arg_value>{_text(value)}</arg_value>\n" for key, value in values.items())
    return f"<tool_call>{name}\n{''.join(pairs)}</tool_call>"


def _python(call: Call) -> str:
    """Truth values as Python has them, all else as JSON, which is Python too."""
    name, values = call
    arguments = (
        f"{key}={value if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    )
    return f"{name}({', '.join(arguments)})"


def _special_tokens(calls: Sequence[Call], before: str, behind: str, between: str) -> str:
    each = (
        f"<｜tool▁call▁begin｜>{before.format(name)}{json.dumps(values, ensure_ascii=False)}{behind}<｜tool▁call▁end｜>"
        for name, values in calls
    )
    return f"<｜tool▁calls▁begin｜>{between.join(each)}<｜tool▁calls▁end｜>"


def _messages(calls: Sequence[Call]) -> str:
    head = "<|channel|>commentary to=functions.{} <|constrain|>json<|message|>"
    each = (f"{head.format(name)}{json.dumps(values, ensure_ascii=False)}" for name, values in calls)
    return "<|end|><|start|>assistant".join(each)


WRITERS: Mapping[str, Callable[[Sequence[Call]], str]] = {
    "hermes": _tagged,
    "generic": _tagged,
    "llama3_json": lambda calls: "; ".join(_object(call, "parameters") for call in calls),
    "mistral": lambda calls: f"[TOOL_CALLS]{_list(calls)}",
    "mistral_named": _named,
    "granite": lambda calls: f"<|tool_call|>{_list(calls)}",
    "phi4": lambda calls: f"<|tool_call|>{_list(calls)}<|/tool_call|>",
    "qwen3_coder": lambda calls: "\n".join(map(_function_tags, calls)),
    "glm": lambda calls: "\n".join(map(_keys_and_values, calls)),
    "pythonic": lambda calls: f"[{', '.join(map(_python, calls))}]",
    "kimi_k2": _section,
    "cohere": _actions,
    "lfm2": lambda calls: f"<|tool_call_start|>[{', '.join(map(_python, calls))}]<|tool_call_end|>",
    "nemotron": lambda calls: f"<TOOLCALL>{_list(calls)}</TOOLCALL>",
    "hunyuan": lambda calls: f"<tool_calls>{_list(calls)}</tool_calls>",
    "minimax_m1": lambda calls: "\n".join(
        ["<tool_calls>", *(_object(call, "arguments") for call in calls), "</tool_calls>"]
    ),
    "seed_oss": lambda calls: "\n".join(map(_seed_tags, calls)),
    "minimax_m2": _invocations,
    "xlam": _list,
    "function_json": lambda calls: "".join(
        f"<function={name}>{json.dumps(values, ensure_ascii=False)}</function>" for name, values in calls
    ),
    "deepseek": lambda calls: _special_tokens(calls, "function<｜tool▁sep｜>{}\n```json\n", "\n```", "\n"),
    "deepseek_v31": lambda calls: _special_tokens(calls, "{}<｜tool▁sep｜>", "", ""),
    "harmony": _messages,
}
"""How each notation writes calls, independently of its grammar."""


def cases(file: Path) -> Iterator[Case]:
    """All questions whose functions and answers are given."""
    with tarfile.open(file) as archive:

        def lines(name: str) -> list[dict[str, Any]]:
            stored = archive.extractfile(f"{name}.json")
            return [json.loads(line) for line in stored or ()]

        for name in FILES:
            answers = {entry["id"]: entry["ground_truth"] for entry in lines(f"possible_answer/{name}")}
            for entry in lines(name):
                tools = [Tool(_name(each["name"]), schema_of(each["parameters"])) for each in entry["function"]]
                calls = [
                    (_name(called), {key: _first(values) for key, values in given.items() if _given(values)})
                    for call in answers[entry["id"]]
                    for called, given in call.items()
                ]
                yield Case(tools, calls)


def schema_of(parameters: Any) -> Any:
    """JSON Schema of parameters, in which the data have Python's names of types."""
    if isinstance(parameters, list):
        return [schema_of(each) for each in parameters]
    if not isinstance(parameters, dict):
        return parameters
    schema = {key: value if key in ("default", "enum") else schema_of(value) for key, value in parameters.items()}
    kind = schema.get("type")
    if isinstance(kind, str):
        schema["type"] = TYPES.get(kind, kind)
    if kind == "any":
        del schema["type"]
    return schema


def _name(name: str) -> str:
    return name.replace(".", "_")


def _given(values: Any) -> bool:
    """An argument may be left out if "" is among the values; one is taken that says something."""
    return not isinstance(values, list) or any(value != "" for value in values)


def _first(values: Any) -> Any:
    """The value of what has a list of possible ones."""
    return _plain(next(value for value in values if value != "") if isinstance(values, list) else values)


def _plain(value: Any) -> Any:
    """Objects within a value have lists of possible values too."""
    if isinstance(value, dict):
        return {key: _first(each) for key, each in value.items() if _given(each)}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def read_back(tool_format: ToolFormat, case: Case, text: str) -> bool:
    """Whether the parser finds the calls of the case in an answer, and nothing else."""
    parser = tool_format.parser(case.tools)
    found: list[tuple[str, str]] = []
    for event in joined(parser.feed(text) + parser.finish()):
        match event:
            case CallBegins(name, _):
                found.append((name, ""))
            case Arguments(more):
                found[-1] = (found[-1][0], found[-1][1] + more)
            case Content():
                return False
    return [(name, json.loads(arguments)) for name, arguments in found] == list(case.calls)


def examine(tool_format: ToolFormat, all_cases: Iterable[Case]) -> dict[str, int]:
    """The figures of one notation."""
    counted: Counter[str] = Counter(answers=0, **{"read back": 0, "valid": 0, "accepted": 0})
    compiler = GrammarCompiler(TOKENS, [END])
    for case in all_cases:
        text = WRITERS[tool_format.name](case.calls)
        counted["answers"] += 1
        counted["read back"] += read_back(tool_format, case, text)
        if is_valid(case):
            counted["valid"] += 1
            part = tool_format.grammar(case.tools, Demand(required=True, parallel=True, special={}))
            try:
                grammar = compiler.compile(GrammarSpec(GrammarKind.TREE, grammar_text(part)))
            except InvalidRequestError:
                continue  # counted by `schemas`
            counted["accepted"] += accepts(grammar, WRITERS[tool_format.name](_in_order(case)))
    return dict(counted)


def schemas(all_cases: Iterable[Case]) -> dict[str, Any]:
    """What becomes of all different schemas."""
    compiler = GrammarCompiler(TOKENS, [END])
    different = {json.dumps(tool.parameters, ensure_ascii=False) for case in all_cases for tool in case.tools}
    refused: Counter[str] = Counter()
    for source in different:
        try:
            try_grammar(compiler.compile(GrammarSpec(GrammarKind.JSON_SCHEMA, source)), len(TOKENS), [END])
        except InvalidRequestError as error:
            refused[reason_of(error.message)] += 1
    return {"schemas": len(different), "refused": refused.total(), "refused for": dict(refused.most_common())}


def is_valid(case: Case) -> bool:
    """Whether the arguments of all calls follow their schemas."""
    known = {tool.name: tool.parameters for tool in case.tools}
    try:
        return all(jsonschema.Draft202012Validator(known[name] or {}).is_valid(values) for name, values in case.calls)
    except (KeyError, jsonschema.exceptions.UnknownType):
        return False


def _in_order(case: Case) -> list[Call]:
    known = {tool.name: tool.parameters for tool in case.tools}
    return [(name, _like(values, known[name])) for name, values in case.calls]


def _like(value: Any, schema: Any) -> Any:
    """A value with its names in the order of the schema."""
    if isinstance(value, list):
        items = schema.get("items") if isinstance(schema, dict) else None
        return [_like(each, items) for each in value]
    if not isinstance(value, dict):
        return value
    properties = (schema.get("properties") if isinstance(schema, dict) else None) or {}
    names = [*(name for name in properties if name in value), *(name for name in value if name not in properties)]
    return {name: _like(value[name], properties.get(name)) for name in names}


def main() -> None:
    """Examine all notations, print the figures and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the leaderboard's data, as a tar file")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--every", type=int, default=1, help="only every so manyth question")
    arguments = parser.parse_args()
    chosen = list(itertools.islice(cases(arguments.data), 0, None, arguments.every))
    figures: dict[str, Any] = {"schemas": schemas(chosen)}
    for name in WRITERS:
        figures[name] = examine(choose("", name), chosen)
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if arguments.json:
        versions = installed(("llguidance", "jsonschema"))
        report = {"command": command(sys.argv), "machine": machine(), "versions": versions, "figures": figures}
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
