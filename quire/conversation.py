"""A conversation on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from engine.errors import ContextLengthError, InvalidRequestError, RequestFailedError
from quire.answers import Talker

HELP = "/clear starts over, /exit or Ctrl-D leaves, Ctrl-C interrupts an answer."

THINKING, ANSWERING = "[thinking]\n", "\n[answer]\n"
"""What stands before thoughts, and between them and the answer."""


class Conversation:
    """Questions, answers, and their history.

    Args:
        talker: who answers.
        system: system message; empty for none.
        show: writes a piece of text.
        aside: writes a piece of what is not the answer itself: thoughts, and what parts them from it.
        notify: tells the user something that is no part of the conversation.
    """

    def __init__(
        self,
        talker: Talker,
        system: str,
        *,
        show: Callable[[str], None],
        aside: Callable[[str], None],
        notify: Callable[[str], None],
    ) -> None:
        self._talker = talker
        self._show = show
        self._aside = aside
        self._notify = notify
        self._opening: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._opening)

    def run(self, read: Callable[[], str]) -> None:
        """Converse until `read` raises EOFError or the user leaves."""
        self._notify(f"{self._talker.name}. {HELP}")
        while True:
            try:
                line = read().strip()
            except EOFError:
                return
            except KeyboardInterrupt:
                self._show("\n")
                continue
            if line == "/exit":
                return
            if line == "/clear":
                self.messages = list(self._opening)
                self._notify("The conversation starts over.")
            elif line.startswith("/"):
                self._notify(HELP)
            elif line:
                self.ask(line)

    def ask(self, question: str) -> None:
        """Ask, and show the answer as it comes. A question that gets none is not remembered; what an interrupted
        answer had said is, and its thoughts are not: few models are to see them again."""
        self.messages.append({"role": "user", "content": question})
        said: list[str] = []
        try:
            self._listen(said)
        except KeyboardInterrupt:
            self._notify("\n(interrupted)")
        except (InvalidRequestError, RequestFailedError) as problem:
            hint = " /clear starts over." if isinstance(problem, ContextLengthError) else ""
            self._notify(f"error: {problem}{hint}")
        if said:
            self.messages.append({"role": "assistant", "content": "".join(said)})
        else:
            self.messages.pop()

    def _listen(self, said: list[str]) -> None:
        reason = None
        thinking = False
        with closing(self._talker.answer(self.messages)) as pieces:
            for piece in pieces:
                if piece.thoughts:
                    self._aside(piece.thoughts if thinking else f"{THINKING}{piece.thoughts}")
                    thinking = True
                if piece.text:
                    if thinking:
                        self._aside(ANSWERING)
                        thinking = False
                    said.append(piece.text)
                    self._show(piece.text)
                reason = piece.finish_reason or reason
        self._show("\n")
        if reason == "length":
            self._notify("(the answer was cut at its length limit)")
