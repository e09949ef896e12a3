"""The text side of a model, which lives in the server process: tokenizer, chat template, generation defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.text.chat_template import ChatTemplate, load_chat_template
from engine.text.defaults import GenerationDefaults, generation_defaults
from engine.text.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class ModelText:
    """What turns requests into token ids.

    Attributes:
        tokenizer: of the model.
        template: how conversations become prompts; None if the model brings none.
        defaults: values for what a request leaves open.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    defaults: GenerationDefaults


def load_model_text(directory: Path) -> ModelText:
    """Read the text files of a model directory.

    Raises:
        TokenizerError: the tokenizer is missing or unreadable.
        TemplateError: the chat template is not valid.
        CheckpointError: a configuration file is corrupt.
    """
    tokenizer = load_tokenizer(directory)
    return ModelText(tokenizer, load_chat_template(directory), generation_defaults(directory, tokenizer))
