"""What a chat template makes of the messages it is given: found out once, by rendering small conversations.

Templates say nowhere what they support. Some refuse a system message, some write it into the first user's turn, some
leave it out without a word. So each is tried with conversations whose texts are words found nowhere else, and the
report says which of the words came out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from typing import Any

from engine.errors import TemplateError
from engine.text.chat_template import ChatTemplate, Message

THINKING_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""What opens and closes a model's thoughts, as far as templates write it."""

_SWITCHES: Mapping[str, tuple[object, object]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    "reasoning_effort": ("low", "high"),
}
"""Variables templates are known to read, each with two values that should make a difference."""

_FIRST, _SECOND, _ANSWER, _OTHER = "qzfirst", "qzsecond", "qzanswer", "qzother"
_SYSTEM, _LATER, _TOOL, _VALUE = "qzsystem", "qzlater", "qztool", "qzvalue"
_RESULT, _THOUGHT, _DEVELOPER = "qzresult", "qzthought", "qzdeveloper"
_CALL_IDS = ("qz0000001", "qz0000002")  # nine characters: some templates take no others
_USUAL_CALL_IDS = ("call_qzqzqzqzqzqzqzqzqzqzqz01", "call_qzqzqzqzqzqzqzqzqzqzqz02")


class Treatment(StrEnum):
    """What becomes of something in a conversation.

    Attributes:
        SHOWN: it is in the prompt.
        MERGED: it is in the prompt, inside a user's turn.
        DROPPED: the prompt is as if it were not there.
        REFUSED: the template fails.
    """

    SHOWN = "shown"
    MERGED = "merged"
    DROPPED = "dropped"
    REFUSED = "refused"

    @property
    def taken(self) -> bool:
        """Whether the model gets to see it."""
        return self in (Treatment.SHOWN, Treatment.MERGED)


class CallForm(StrEnum):
    """The form in which a template takes the arguments of an earlier call."""

    OBJECT = "object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class TemplateCapabilities:
    """What one chat template does.

    Attributes:
        system: a system message at the beginning.
        later_system: one after other messages.
        several_systems: two, at the beginning.
        developer: whether the template knows this role by name.
        same_role: two messages of a user in a row.
        assistant_first: a conversation that an assistant begins.
        without_user: one that no user takes part in.
        tools: definitions of tools.
        needs_tools: whether it fails without any; all else was then found out with one.
        tool_calls: an assistant's call.
        parallel_tool_calls: two calls in one message.
        tool_results: the answer of a tool.
        call_arguments: how the arguments of a call must be given.
        call_needs_null: whether the content of a message that calls must be null.
        short_call_ids: whether ids of calls must have nine characters.
        text_content: content that is a string.
        content_parts: whether content may be a list of parts, so that the template joins them as the model knows it.
        thoughts: `reasoning_content` of an answer after the last user message.
        switches: variables that change the prompt, of those with a known meaning.
        answer_opening: what stands between the last user's text and an answer.
        opens_thinking: the tag that an answer begins inside of, so that the model does not write it itself.
        continues_final_message: whether an assistant's message can be left open.
    """

    system: Treatment
    later_system: Treatment
    several_systems: Treatment
    developer: bool
    same_role: Treatment
    assistant_first: Treatment
    without_user: Treatment
    tools: Treatment
    needs_tools: bool
    tool_calls: Treatment
    parallel_tool_calls: Treatment
    tool_results: Treatment
    call_arguments: CallForm
    call_needs_null: bool
    short_call_ids: bool
    text_content: Treatment
    content_parts: bool
    thoughts: Treatment
    switches: tuple[str, ...]
    answer_opening: str
    opens_thinking: str | None
    continues_final_message: bool

    @property
    def needs_parts(self) -> bool:
        """Whether content that is a string must be given as a list with one part."""
        return self.content_parts and not self.text_content.taken

    def report(self) -> dict[str, Any]:
        """The capabilities as JSON values."""
        return asdict(self)

    def summary(self) -> str:
        """One line for those who run the server."""
        facts = [f"system messages {self.system}", f"tools {self.tools}"]
        if not self.same_role.taken:
            facts.append("roles must alternate")
        if self.needs_parts:
            facts.append("content must be parts")
        if self.opens_thinking:
            facts.append(f"answers begin inside {self.opens_thinking}")
        if self.switches:
            facts.append(f"listens to {', '.join(self.switches)}")
        return ", ".join(facts)


def open_thinking_tag(prompt: str) -> str | None:
    """The tag of the thoughts a prompt ends inside of, or None."""
    opened = [(prompt.rfind(begin), begin) for begin, end in THINKING_TAGS if prompt.rfind(begin) > prompt.rfind(end)]
    return max(opened)[1] if opened else None


def probe(template: ChatTemplate) -> TemplateCapabilities:
    """Find out what a template does, which takes some forty short renderings."""
    return _Prober(template).report()


class _Prober:
    """Renders conversations and looks for their words.

    Args:
        template: to be probed.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._as_parts = False
        self._tools: Sequence[Mapping[str, Any]] | None = None
        user = [self._message("user", _FIRST)]
        if self._render(user) is None and self._render(user, tools=_TOOLS) is not None:
            self._tools = _TOOLS
        self._text_content = self._treatment(user, _FIRST)
        self._parts = self._takes_parts()
        self._as_parts = self._parts and not self._text_content.taken

    def report(self) -> TemplateCapabilities:
        """All capabilities."""
        user, answer = self._message("user", _FIRST), self._message("assistant", _ANSWER)
        system, more = self._message("system", _SYSTEM), self._message("system", _LATER)
        again = self._message("user", _SECOND)
        form, needs_null, calls = self._tool_calls()
        both = self._tool_conversation(form, calls=2, null=needs_null)
        opening = self._answer_opening(user)
        return TemplateCapabilities(
            system=self._system(system, user),
            later_system=self._treatment([user, answer, more, again], _FIRST, _LATER, _SECOND),
            several_systems=self._treatment([system, more, user], _SYSTEM, _LATER, _FIRST),
            developer=self._developer(user),
            same_role=self._treatment([user, again], _FIRST, _SECOND),
            assistant_first=self._treatment([answer, user], _ANSWER, _FIRST),
            without_user=self._treatment([answer], _ANSWER),
            tools=self._treatment([user], _FIRST, _TOOL, tools=_TOOLS),
            needs_tools=self._tools is not None,
            tool_calls=calls,
            parallel_tool_calls=self._treatment(both[:2], _FIRST, _VALUE, _OTHER, tools=_TOOLS),
            tool_results=self._treatment(
                self._tool_conversation(form, calls=1, null=needs_null), _FIRST, _RESULT, tools=_TOOLS
            ),
            call_arguments=form,
            call_needs_null=needs_null,
            short_call_ids=calls.taken and not self._call_treatment(form, needs_null, _USUAL_CALL_IDS).taken,
            text_content=self._text_content,
            content_parts=self._parts,
            thoughts=self._treatment([user, {**answer, "reasoning_content": _THOUGHT}], _FIRST, _ANSWER, _THOUGHT),
            switches=tuple(self._switches(user)),
            answer_opening=opening,
            opens_thinking=open_thinking_tag(opening),
            continues_final_message=self._continues([user, answer]),
        )

    def _message(self, role: str, word: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": word}] if self._as_parts else word}

    def _render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        open_answer: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> str | None:
        """The prompt, or None if the template refuses."""
        try:
            return self._template.render(
                messages,
                tools=tools or self._tools,
                add_generation_prompt=open_answer,
                variables=variables,
                decode_arguments=False,
            )
        except TemplateError:
            return None

    def _treatment(
        self, messages: Sequence[Message], *words: str, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> Treatment:
        text = self._render(messages, tools=tools)
        if text is None:
            return Treatment.REFUSED
        return Treatment.SHOWN if all(word in text for word in words) else Treatment.DROPPED

    def _takes_parts(self) -> bool:
        """Whether the parts come out as texts, and not as what Python calls a list of them."""
        plain = self._render([self._message("user", _FIRST)])
        self._as_parts = True
        text = self._render([self._message("user", _FIRST)])
        self._as_parts = False
        if text is None or _FIRST not in text:
            return False
        return text == plain if self._text_content.taken else "'text'" not in text and '"text"' not in text

    def _system(self, system: Message, user: Message) -> Treatment:
        treatment = self._treatment([system, user], _SYSTEM, _FIRST)
        alone, both = self._render([user]), self._render([system, user])
        if treatment is not Treatment.SHOWN or alone is None or both is None:
            return treatment
        # a turn of the user's own begins with what it begins with when there is no system message
        before = both.partition(_FIRST)[0]
        shared = _common_end(alone.partition(_FIRST)[0].rstrip(), before.rpartition(_SYSTEM)[2].rstrip())
        own_turn = any(character.isalnum() for character in shared)
        return Treatment.SHOWN if own_turn else Treatment.MERGED

    def _developer(self, user: Message) -> bool:
        if "developer" not in self._template.source:
            return False
        return self._treatment([self._message("developer", _DEVELOPER), user], _DEVELOPER, _FIRST).taken

    def _tool_calls(self) -> tuple[CallForm, bool, Treatment]:
        """The first form in which calls are shown, whether it takes null, and what becomes of calls in it."""
        forms = list(product((False, True), CallForm))
        found = [self._call_treatment(form, null) for null, form in forms]
        best = next((index for index, treatment in enumerate(found) if treatment.taken), 0)
        null, form = forms[best]
        return form, null, found[best]

    def _call_treatment(self, form: CallForm, null: bool, call_ids: Sequence[str] = _CALL_IDS) -> Treatment:
        called = self._tool_conversation(form, calls=1, null=null, call_ids=call_ids)[:2]
        return self._treatment(called, _FIRST, _TOOL, _VALUE, tools=_TOOLS)

    def _tool_conversation(
        self, form: CallForm, *, calls: int, null: bool, call_ids: Sequence[str] = _CALL_IDS
    ) -> list[Message]:
        """A question, calls, and what the first of them answers."""
        arguments = [
            {"place": word} if form is CallForm.OBJECT else f'{{"place": "{word}"}}' for word in (_VALUE, _OTHER)
        ]
        made = [
            {"id": call_id, "type": "function", "function": {"name": _TOOL, "arguments": each}}
            for call_id, each in zip(call_ids, arguments, strict=True)
        ]
        content = None if null else self._message("assistant", "")["content"]
        calling = {"role": "assistant", "content": content, "tool_calls": made[:calls]}
        result = {**self._message("tool", _RESULT), "tool_call_id": call_ids[0], "name": _TOOL}
        return [self._message("user", _FIRST), calling, result]

    def _switches(self, user: Message) -> Iterator[str]:
        for name, values in _SWITCHES.items():
            one, other = (self._render([user], open_answer=True, variables={name: value}) for value in values)
            if name in self._template.source and one != other:
                yield name

    def _answer_opening(self, user: Message) -> str:
        text = self._render([user], open_answer=True)
        return "" if text is None else text.rpartition(_FIRST)[2]

    def _continues(self, messages: Sequence[Message]) -> bool:
        try:
            text = self._template.render(
                messages, tools=self._tools, add_generation_prompt=False, continue_final_message=True
            )
        except TemplateError:
            return False
        return text.endswith(_ANSWER)


def _common_end(first: str, second: str) -> str:
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    return first[len(first) - length :]


_TOOLS = (
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "Looks something up.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "Where."}},
                "required": ["place"],
            },
        },
    },
)
