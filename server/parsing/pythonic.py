"""Calls as Llama 3.2 and Llama 4 write them if the prompt asks for Python: `[get_weather(city="Oslo"), get_time()]`.

The list is the whole answer, or stands behind `<|python_start|>` or `<|python_tag|>`. At the beginning of an answer it
is one only if the first name is that of a tool. Sources: https://www.llama.com/docs/model-cards-and-prompt-formats,
and vLLM's templates tool_chat_template_llama3.2_pythonic.jinja and tool_chat_template_llama4_pythonic.jinja.

Nothing is evaluated. A string goes out as it comes; it ends with a quote that a comma or bracket follows, so one in the
midst of it, which should have been escaped, does no harm. What is no literal is taken for a text without quotes. An
argument without a name is the next one of the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from server.parsing.argument_types import argument_types, type_of
from server.parsing.argument_writer import ArgumentsWriter
from server.parsing.findings import Findings
from server.parsing.grammar_parts import choice, json_value, optional, regex, repeat, sequence, text, until
from server.parsing.json_scanner import BLANKS
from server.parsing.named_arguments import ANY_NAME, NamedArgument, is_open, named_arguments, with_definitions
from server.parsing.python_scanner import StringReader, ValueScanner, opening_quote
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME, StepRegion, next_tag, through
from server.parsing.tool_format import Demand, Part, Tool

OPENINGS = ("<|python_start|>", "<|python_tag|>")
CLOSING = "<|python_end|>"

_CALL = re.compile(rf"([\w.-]{{1,{MOST_OF_A_NAME}}})\s*\(")
_CALL_SO_FAR = re.compile(rf"[\w.-]{{1,{MOST_OF_A_NAME}}}\s*")
_NAME = re.compile(rf"[A-Za-z_][\w.-]{{0,{MOST_OF_A_NAME}}}")
_KEYWORD = re.compile(rf"({_NAME.pattern})\s*=")
_KEYWORD_SO_FAR = re.compile(rf"{_NAME.pattern}\s*")
_SINGLE_QUOTED = r"'(?:[^'\\\n]|\\['\"\\nrt])*'"


class PythonicFormat:
    """The `ToolFormat` of Llama models that are prompted for Python."""

    name = "pythonic"
    markers = (*OPENINGS, CLOSING)

    def recognises(self, template: str) -> bool:
        """Templates that show functions in brackets as an example."""
        return "[func_name1(" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        parameters = {tool.name: tool.parameters for tool in tools}
        first = _Region(findings, "", parameters)
        return RegionParser(findings, OPENINGS, lambda marker: _Region(findings, marker, parameters), first)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`: calls, or a text that neither begins with a bracket nor has a marker in it."""
        calls = repeat(choice([_call(tool) for tool in tools]), text(", "), most=None if demand.parallel else 1)
        whole = sequence(text("["), calls, text("]"))
        if demand.required:
            return whole
        if demand.answer is not None:
            return choice([whole, demand.answer])
        first = choice([regex(r"[^\s\[<]"), regex(r"<[^\s|]")])
        return choice([whole, sequence(first, until(None, OPENINGS))])


def _call(tool: Tool) -> Part:
    if is_open(tool):
        one = sequence(regex(ANY_NAME), text("="), json_value({}))
        return sequence(text(f"{tool.name}("), optional(repeat(one, text(", "), most=None)), text(")"))
    arguments = named_arguments(tool, _NAME)
    parts = [sequence(text(f"{each.name}="), _value(tool, each)) for each in arguments]
    needed = [each.required for each in arguments]
    return sequence(text(f"{tool.name}("), *_with_commas(parts, needed), text(")"))


def _with_commas(parts: Sequence[Part], needed: Sequence[bool]) -> list[Part]:
    """Parts of which some may be left out, with commas between those that are there."""
    following = [sequence(text(", "), part) for part in parts]
    following = [part if must else optional(part) for part, must in zip(following, needed, strict=True)]
    if True in needed:
        first = needed.index(True)
        return [
            *(optional(sequence(part, text(", "))) for part in parts[:first]),
            parts[first],
            *following[first + 1 :],
        ]
    ways = [sequence(part, *following[index + 1 :]) for index, part in enumerate(parts)]
    return [optional(choice(ways))] if ways else []


def _value(tool: Tool, argument: NamedArgument) -> Part:
    types = argument_types(tool.parameters, argument.name)
    values = [True, False] if argument.keywords == ["type"] and types == {"boolean"} else argument.values
    fitting = [value for value in values or () if type_of(value) in types]
    if fitting and not set(argument.keywords) - {"type", "enum", "const"}:
        return choice([text(_literal(value)) for value in fitting])
    json_form = json_value(with_definitions(argument.schema, tool.parameters))
    plain = argument.keywords == ["type"] and "string" in types
    return choice([json_form, regex(_SINGLE_QUOTED)]) if plain else json_form


def _literal(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


class _Region(StepRegion):
    """One list of calls, or several."""

    def __init__(self, findings: Findings, opening: str, tools: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__(findings, opening)
        self._tools = tools
        self._marked = opening != ""
        self._any_name = self._marked
        self._writer = ArgumentsWriter(None)
        self._names: Iterator[str] = iter(())  # of the arguments, in the order of the schema
        self._string = StringReader("'")
        self._quote = "'"
        self._scanner = ValueScanner()
        self._source = ""
        self._step = self._list

    def finish(self, rest: str) -> None:
        """As `Region.finish`."""
        if self._unread is not None and (self._unread + rest).strip(BLANKS) != ",":
            super().finish(rest)

    def _list(self, text: str) -> int:
        tag = next_tag(text, ["["])
        if tag is None:
            return self._give_back()
        if tag == "":
            return len(text)
        self._step = self._function
        return through(text, tag)

    def _function(self, text: str) -> int:
        blanks = _blanks(text)
        found = _CALL.match(text, blanks)
        if found is None:
            waits = blanks == len(text) or _CALL_SO_FAR.fullmatch(text, blanks)
            return 0 if waits else self._give_back()
        if not self._any_name and found[1] not in self._tools:
            return self._give_back()
        self._call(found[1])
        self._any_name = True
        parameters = self._tools.get(found[1]) or {}
        self._writer = ArgumentsWriter(parameters)
        self._names = iter(parameters.get("properties") or ())
        self._step = self._argument
        return found.end()

    def _argument(self, text: str) -> int:
        blanks = _blanks(text, BLANKS + ",")
        if blanks == len(text):
            return blanks
        if text[blanks] in ")]":
            self._findings.arguments(self._writer.close())
            self._step = self._behind_call
            return blanks + (text[blanks] == ")")
        keyword = _KEYWORD.match(text, blanks)
        if keyword is None and _KEYWORD_SO_FAR.fullmatch(text, blanks):
            return 0
        name = keyword[1] if keyword else next(self._names, None)
        if name is not None:
            self._writer.begin(name)
        self._step = self._value
        return keyword.end() if keyword else blanks

    def _value(self, text: str) -> int:
        blanks = _blanks(text)
        quote = opening_quote(text, blanks)
        if quote == "" or blanks == len(text):
            return 0
        if quote is None:
            self._scanner, self._source = ValueScanner(), ""
            self._step = self._other_value
            return blanks
        self._writer.begin_string()
        return blanks + self._open(quote)

    def _open(self, quote: str) -> int:
        self._quote, self._string = quote, StringReader(quote)
        self._step = self._text
        return len(quote)

    def _text(self, text: str) -> int:
        said, used = self._string.feed(text)
        self._findings.arguments(self._writer.feed(said))
        if self._string.ended:
            self._step = self._behind_text
        return used

    def _behind_text(self, text: str) -> int:
        """Behind a quote: it is the last one if the argument is over."""
        blanks = _blanks(text)
        if blanks == len(text):
            return 0
        if text[blanks] in ",)]":
            self._findings.arguments(self._writer.end())
            self._step = self._argument
            return blanks
        quote = opening_quote(text, blanks)
        if quote:  # strings that stand side by side are one
            return blanks + self._open(quote)
        if quote is None:
            self._findings.arguments(self._writer.feed(self._quote))
            self._open(self._quote)
        return 0

    def _other_value(self, text: str) -> int:
        used = self._scanner.feed(text)
        self._source += text[:used]
        if self._scanner.ended:
            self._findings.arguments(self._writer.literal(self._source.strip()))
            self._step = self._argument
        return used

    def _behind_call(self, text: str) -> int:
        tag = next_tag(text, [",", "]"])
        if tag is None:
            self.over = True
        elif tag:
            self._unread = "" if tag == "," else None
            self._step = self._next_function if tag == "," else self._behind_list
        return through(text, tag) if tag else 0

    def _next_function(self, text: str) -> int:
        if next_tag(text, ["]"]):
            self._step = self._behind_call
            return 0
        return self._function(text)

    def _behind_list(self, text: str) -> int:
        tag = next_tag(text, [CLOSING, "["])
        if tag == "[":
            self._unread, self._any_name = "", self._marked
            self._step = self._list
            return 0
        self.over = tag is None or tag == CLOSING
        return through(text, CLOSING) if tag == CLOSING else 0


def _blanks(text: str, which: str = BLANKS) -> int:
    """How many a text begins with."""
    return len(text) - len(text.lstrip(which))
