"""How the texts begin that a model writes for its own calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import TemplateError
from engine.model.config import ModelConfig
from engine.text.chat_template import load_chat_template
from engine.text.defaults import generation_defaults
from engine.text.tokenizer import Tokenizer

_MARK = "\ue000QUESTION\ue001"


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """What a chat template puts around the first question.

    Attributes:
        before: tokens up to the question.
        after: tokens from the question's end to the start of the answer.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Openings:
    """Everything a model can begin with.

    Attributes:
        plain: tokens that begin a text; empty where the tokenizer has none.
        chat: frame of a conversation, where the model has a chat template that shows questions as they are.
        end: token that stands between texts, if there is one.
    """

    plain: tuple[int, ...]
    chat: ChatFrame | None
    end: int | None


def read_openings(directory: Path, tokenizer: Tokenizer, config: ModelConfig) -> Openings:
    """Openings of the model in `directory`; where the tokenizer does not name its tokens, the configs may.

    Raises:
        TokenizerError: its tokenizer settings are corrupt.
    """
    end = _first_known(tokenizer.eos_token_id, *generation_defaults(directory).eos_token_ids)
    first = _first_known(tokenizer.bos_token_id, config.bos_token_id, end)
    return Openings(() if first is None else (first,), _chat_frame(directory, tokenizer), end)


def _first_known(*candidates: int | None) -> int | None:
    return next((each for each in candidates if each is not None), None)


def _chat_frame(directory: Path, tokenizer: Tokenizer) -> ChatFrame | None:
    template = load_chat_template(directory)
    if template is None:
        return None
    try:
        text = template.render([{"role": "user", "content": _MARK}], add_generation_prompt=True)
    except TemplateError:
        return None  # a template that insists on more than one question
    before, mark, after = text.partition(_MARK)
    if not mark:
        return None
    return ChatFrame(tuple(tokenizer.encode(before, False)), tuple(tokenizer.encode(after, False)))
