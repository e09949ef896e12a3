"""Answers of gpt-oss: messages, each with a header that says for whom it is.

    <|channel|>analysis<|message|>They ask for the weather.<|end|><|start|>assistant<|channel|>commentary
    to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo"}<|call|>

The channel `analysis` has thoughts; `final` has the answer, and so has `commentary` where it is to nobody. A message to
`functions.NAME` is a call, whatever its channel; the recipient may also stand before the channel. The prompt ends with
`<|start|>assistant`. Source: https://github.com/openai/harmony/blob/main/docs/format.md.

These models sometimes put into a header what does not belong there, which is left out, or forget `<|message|>`; then
what is left of the header is the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from server.parsing.base import Event
from server.parsing.findings import Findings
from server.parsing.grammar_parts import (
    answer_with_calls,
    any_number,
    arguments,
    choice,
    marker,
    repeat,
    sequence,
    text,
    until,
)
from server.parsing.json_scanner import BLANKS, JsonScanner
from server.parsing.markers import split_at_marker
from server.parsing.step_region import next_tag
from server.parsing.tool_format import Demand, Part, Tool

START = "<|start|>"
CHANNEL = "<|channel|>"
CONSTRAIN = "<|constrain|>"
MESSAGE = "<|message|>"
END = "<|end|>"
CALL = "<|call|>"
RETURN = "<|return|>"
FUNCTIONS = "functions."

MOST_OF_A_HEADER = 500
"""Characters; what is longer is no header."""

_ENDS = (END, CALL, RETURN, START)
_ROLE = re.compile(r"\s*[\w.-]*")
_RECIPIENT = re.compile(r"\s*\bto=([^\s<]*)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(analysis|commentary|final)?")
_CONTENT_TYPE = re.compile(r"\s*<\|constrain\|>\s*\w*|\s*\b(?:json|code)\s*$")
_CUT_OFF = re.compile(r"(?:<\|channel\|>\s*[a-z]*|<\|?[a-z]*\|?)$|\s*\bto=[^\s<]*(?:\s*<\|constrain\|>\s*\w*)?$")


class HarmonyFormat:
    """The `ToolFormat` of gpt-oss. Its parser is right for answers without tools too."""

    name = "harmony"
    markers = (START, CHANNEL, CONSTRAIN, MESSAGE, END, CALL, RETURN)

    def recognises(self, template: str) -> bool:
        """Templates that write channels."""
        return CHANNEL in template and MESSAGE in template

    def parser(self, tools: Sequence[Tool]) -> HarmonyParser:
        """As `ToolFormat.parser`."""
        return HarmonyParser({tool.name for tool in tools})

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`: thoughts, then calls, or unless they are required, an answer.

        The token that ends a call also ends the answer of these models, so the last call does without.
        """
        start, channel, message, end = (marker(each, demand.special) for each in (START, CHANNEL, MESSAGE, END))
        again = sequence(end, start, text("assistant"))
        body = until(end, [*_ENDS, MESSAGE, CHANNEL])
        silent = demand.required or demand.answer is not None
        preambles = ("analysis",) if silent else ("analysis", "commentary")
        before = choice([sequence(channel, text(each), message, body, start, text("assistant")) for each in preambles])
        constrained = sequence(text(" "), marker(CONSTRAIN, demand.special), text("json"), message)
        calls = [
            sequence(channel, text(f"commentary to={FUNCTIONS}{tool.name}"), constrained, arguments(tool))
            for tool in tools
        ]
        called = repeat(choice(calls), again, most=demand.most_calls)
        if demand.required:
            return sequence(any_number(before), called)
        final = sequence(channel, text("final"), message, demand.answer or _free(called, demand))
        return sequence(any_number(before), choice([called, final]))


def _free(called: Part, demand: Demand) -> Part:
    """Any text; but where the message ends in it, calls must follow."""
    behind_start = sequence(text("assistant"), called)
    behind_end = sequence(marker(START, demand.special), behind_start)
    ways = [(START, behind_start), *((each, behind_end) for each in (END, CALL, RETURN))]
    return answer_with_calls(demand._replace(answer=None, parallel=False), ways)


class HarmonyParser:
    """A `StreamParser` of messages. Text outside of messages is content.

    Args:
        functions: names that are calls as recipients without `functions.` too.
    """

    def __init__(self, functions: Collection[str]) -> None:
        self._functions = functions
        self._findings = Findings()
        self._held = ""
        self._step: Callable[[bool], bool] = self._before_message
        self._put: Callable[[str], None] = self._findings.content
        self._lacks_arguments = False  # of a call that has begun
        self._scanner = JsonScanner()

    def feed(self, text: str) -> list[Event]:
        """As `StreamParser.feed`."""
        self._held += text
        self._go_on(ended=False)
        return self._findings.take()

    def finish(self) -> list[Event]:
        """As `StreamParser.finish`."""
        self._go_on(ended=True)
        return self._findings.take_last()

    def _go_on(self, *, ended: bool) -> None:
        """Take one step after the other; each says whether it got on with the text there is."""
        while self._held and self._step(ended):
            pass

    def _before_message(self, ended: bool) -> bool:
        tag = next_tag(self._held, [START, CHANNEL, f"to={FUNCTIONS}"])
        if tag == "" and not ended:
            return False
        if tag:
            self._held = self._held.lstrip(BLANKS)
        self._step = self._in_header if tag else self._in_message
        self._put, self._lacks_arguments = self._findings.content, False
        return True

    def _in_header(self, ended: bool) -> bool:
        opening = START if self._held.startswith(START) else ""
        text = self._held.removeprefix(opening)
        split = split_at_marker(text, (MESSAGE, *_ENDS), ended=ended)
        if split.marker is None and len(split.text) <= MOST_OF_A_HEADER and not ended:
            return False
        header = split.text[:MOST_OF_A_HEADER]
        self._held = text[len(header) :]
        if not self._held:
            header = _CUT_OFF.sub("", header)
        rest = self._read(_ROLE.sub("", header, count=1) if opening else header)
        if self._held.startswith(MESSAGE):
            self._held = self._held.removeprefix(MESSAGE)
        else:
            self._held = rest + self._held
        self._scanner = JsonScanner()
        self._step = self._before_arguments if self._lacks_arguments else self._in_message
        return True

    def _read(self, header: str) -> str:
        """Make ready for the message; gives what does not belong into its header."""
        recipient = "".join(_RECIPIENT.findall(header)[-1:])
        channel = "".join(_CHANNEL.findall(header)[-1:])
        name = recipient.removeprefix(FUNCTIONS)
        if name and (name != recipient or name in self._functions):
            self._findings.call(name)
            self._put, self._lacks_arguments = self._findings.arguments, True
        elif channel == "analysis":
            self._put = self._findings.thought
        for known in (_RECIPIENT, _CONTENT_TYPE, _CHANNEL):
            header = known.sub("", header)
        return header.strip()

    def _before_arguments(self, ended: bool) -> bool:  # noqa: ARG002  (as all steps)
        arguments = self._held.lstrip(BLANKS)
        if not arguments:
            return False
        self._step = self._in_arguments if arguments[0] == "{" else self._in_message
        self._held = arguments
        return True

    def _in_arguments(self, ended: bool) -> bool:  # noqa: ARG002
        """JSON, where markers within strings are part of it; what is none any more is read as any message."""
        line, line_end, _ = self._held.partition("\n")
        used = self._scanner.feed(line)
        over = self._scanner.ended or (self._scanner.in_string and line_end != "")
        used += 0 if over else len(line_end)
        self._add(self._held[:used])
        self._held = self._held[used:]
        if over:
            self._step = self._in_message
        return True

    def _in_message(self, ended: bool) -> bool:
        split = split_at_marker(self._held, _ENDS, ended=ended)
        self._add(split.text)
        self._held = split.rest
        if split.marker is None:
            return False
        if self._lacks_arguments:
            self._findings.arguments("{}")
        if split.marker == START:
            self._held = START + self._held
        self._step = self._before_message
        return True

    def _add(self, text: str) -> None:
        self._put(text)
        self._lacks_arguments = self._lacks_arguments and not text.strip()
