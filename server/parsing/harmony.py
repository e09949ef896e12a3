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
from server.parsing.json_scanner import BLANKS
from server.parsing.markers import split_at_marker
from server.parsing.step_region import next_tag
from server.parsing.tool_format import Tool

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
            self._add(rest)
        self._step = self._in_message
        return True

    def _read(self, header: str) -> str:
        """Make ready for the message; gives what does not belong into its header."""
        recipient = "".join(_RECIPIENT.findall(header)[-1:])
        channel = "".join(_CHANNEL.findall(header)[-1:])
        if recipient.startswith(FUNCTIONS) or recipient in self._functions:
            self._findings.call(recipient.removeprefix(FUNCTIONS))
            self._put, self._lacks_arguments = self._findings.arguments, True
        elif channel == "analysis":
            self._put = self._findings.thought
        for known in (_RECIPIENT, _CONTENT_TYPE, _CHANNEL):
            header = known.sub("", header)
        return header.strip()

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
