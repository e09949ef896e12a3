"""Reading lists of calls in Python's notation: `[get_weather(city="Oslo"), get_time()]`.

Nothing is evaluated. A string goes out as it comes; it ends with a quote that a comma or bracket follows, so one in the
midst of it, which should have been escaped, does no harm. What is no literal is taken for a text without quotes. An
argument without a name is the next one of the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from server.parsing.argument_writer import ArgumentsWriter
from server.parsing.findings import Findings
from server.parsing.json_scanner import BLANKS
from server.parsing.python_scanner import StringReader, ValueScanner, opening_quote
from server.parsing.step_region import MOST_OF_A_NAME, StepRegion, next_tag, through

ARGUMENT_NAME = re.compile(rf"[A-Za-z_][\w.-]{{0,{MOST_OF_A_NAME}}}")
"""What stands before `=`."""

_CALL = re.compile(rf"([\w.-]{{1,{MOST_OF_A_NAME}}})\s*\(")
_CALL_SO_FAR = re.compile(rf"[\w.-]{{1,{MOST_OF_A_NAME}}}\s*")
_KEYWORD = re.compile(rf"({ARGUMENT_NAME.pattern})\s*=")
_KEYWORD_SO_FAR = re.compile(rf"{ARGUMENT_NAME.pattern}\s*")


class PythonicRegion(StepRegion):
    """One list of calls, or several.

    Args:
        findings: gets the calls.
        opening: the marker before it; "" if there is none, and the first name must be that of a tool.
        closing: the marker that may stand behind it.
        tools: JSON Schema of the arguments of each.
    """

    def __init__(
        self, findings: Findings, opening: str, closing: str, tools: Mapping[str, Mapping[str, Any] | None]
    ) -> None:
        super().__init__(findings, opening)
        self._closing = closing
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
        tag = next_tag(text, [self._closing, "["])
        if tag == "[":
            self._unread, self._any_name = "", self._marked
            self._step = self._list
            return 0
        self.over = tag is None or tag == self._closing
        return through(text, self._closing) if tag == self._closing else 0


def _blanks(text: str, which: str = BLANKS) -> int:
    """How many a text begins with."""
    return len(text) - len(text.lstrip(which))
