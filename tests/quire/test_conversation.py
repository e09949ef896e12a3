from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import pytest

from engine.errors import ContextLengthError, EngineDeadError, RequestFailedError
from engine.text.chat_template import Message
from quire.answers import AnswerPiece
from quire.conversation import Conversation

Scripted = str | AnswerPiece | BaseException


class ScriptedTalker:
    """Answers with what it was given, and notes what it was asked."""

    name = "script"

    def __init__(self, *answers: Sequence[Scripted], finish_reason: str = "stop") -> None:
        self._answers = iter(answers)
        self._finish_reason = finish_reason
        self.asked: list[list[Message]] = []
        self.closed = 0

    def answer(self, messages: Sequence[Message]) -> Generator[AnswerPiece, None, None]:
        self.asked.append(list(messages))
        try:
            for piece in next(self._answers):
                if isinstance(piece, BaseException):
                    raise piece
                yield AnswerPiece(piece) if isinstance(piece, str) else piece
            yield AnswerPiece("", self._finish_reason)
        finally:
            self.closed += 1


class Screen:
    def __init__(self) -> None:
        self.text = ""
        self.notes: list[str] = []

    def show(self, text: str) -> None:
        self.text += text

    def aside(self, text: str) -> None:
        self.text += f"~{text}~"


def converse(
    talker: ScriptedTalker, lines: Iterable[str | BaseException], system: str = ""
) -> tuple[Screen, list[Any]]:
    screen = Screen()
    conversation = Conversation(talker, system, show=screen.show, aside=screen.aside, notify=screen.notes.append)
    script = iter(lines)

    def read() -> str:
        line = next(script, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    conversation.run(read)
    return screen, conversation.messages


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_every_question_comes_with_what_was_said_before() -> None:
    talker = ScriptedTalker(["Hel", "lo"], ["Bye"])
    screen, messages = converse(talker, ["Hi", "", "  So long  "], system="Be terse.")
    system = {"role": "system", "content": "Be terse."}
    assert talker.asked == [[system, user("Hi")], [system, user("Hi"), assistant("Hello"), user("So long")]]
    assert messages[-1] == assistant("Bye")
    assert screen.text == "Hello\nBye\n"


def test_clear_keeps_only_the_system_message() -> None:
    talker = ScriptedTalker(["A"], ["B"])
    converse(talker, ["one", "/clear", "two"], system="S")
    assert talker.asked[1] == [{"role": "system", "content": "S"}, user("two")]


def test_leaving() -> None:
    talker = ScriptedTalker(["A"])
    converse(talker, ["/exit", "never asked"])
    assert talker.asked == []


def test_unknown_commands_show_the_help() -> None:
    screen, _ = converse(ScriptedTalker(), ["/help", "/what"])
    assert sum("/clear starts over" in note for note in screen.notes) == 3


def test_ctrl_c_interrupts_the_answer_and_keeps_what_was_said() -> None:
    talker = ScriptedTalker(["Once ", KeyboardInterrupt()], ["B"])
    screen, _ = converse(talker, ["story", "go on"])
    assert talker.asked[1] == [user("story"), assistant("Once "), user("go on")]
    assert any("interrupted" in note for note in screen.notes)
    assert talker.closed == 2


def test_ctrl_c_at_the_prompt_asks_again() -> None:
    talker = ScriptedTalker(["A"])
    converse(talker, [KeyboardInterrupt(), "one"])
    assert talker.asked == [[user("one")]]


@pytest.mark.parametrize("error", [RequestFailedError("it broke"), ContextLengthError(9, 8)])
def test_a_question_without_an_answer_is_forgotten(error: Exception) -> None:
    talker = ScriptedTalker([error], ["B"])
    screen, _ = converse(talker, ["one", "two"])
    assert talker.asked[1] == [user("two")]
    assert any(note.startswith(f"error: {error}") for note in screen.notes)
    assert isinstance(error, ContextLengthError) is any("/clear starts over." in each for each in screen.notes[1:])


def test_a_dead_engine_ends_the_conversation() -> None:
    with pytest.raises(EngineDeadError):
        converse(ScriptedTalker([EngineDeadError("gone")]), ["one"])


def test_a_cut_answer_is_marked() -> None:
    screen, _ = converse(ScriptedTalker(["A"], finish_reason="length"), ["one"])
    assert any("length limit" in note for note in screen.notes)


def thought(text: str) -> AnswerPiece:
    return AnswerPiece("", None, text)


def test_thoughts_are_shown_apart_and_not_sent_again() -> None:
    talker = ScriptedTalker([thought("I "), thought("see."), "It ", "is 4."], ["Yes."])
    screen, messages = converse(talker, ["2+2?", "Sure?"])
    assert screen.text == "~[thinking]\nI ~~see.~~\n[answer]\n~It is 4.\nYes.\n"
    assert messages[1] == assistant("It is 4.")


def test_thoughts_and_the_beginning_of_the_answer_may_come_together() -> None:
    screen, _ = converse(ScriptedTalker([AnswerPiece("It", None, "I see.")]), ["Hi"])
    assert screen.text == "~[thinking]\nI see.~~\n[answer]\n~It\n"


def test_ctrl_c_while_the_model_thinks_ends_the_answer_and_not_the_conversation() -> None:
    talker = ScriptedTalker([thought("Hm"), KeyboardInterrupt()], ["B"])
    screen, messages = converse(talker, ["one", "two"])
    assert talker.closed == 2
    assert any("interrupted" in note for note in screen.notes)
    assert messages == [user("two"), assistant("B")]
