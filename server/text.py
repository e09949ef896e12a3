"""The text side of a model, which lives in the server process: tokenizer, chat template, generation defaults."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from engine.text.chat_template import ChatTemplate, load_chat_template
from engine.text.defaults import GenerationDefaults, generation_defaults
from engine.text.template_capabilities import TemplateCapabilities, probe
from engine.text.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelText:
    """What turns requests into token ids.

    Attributes:
        tokenizer: of the model.
        template: how conversations become prompts; None if the model brings none.
        defaults: values for what a request leaves open.
        capabilities: what the template makes of conversations; None without one.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    defaults: GenerationDefaults
    capabilities: TemplateCapabilities | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "capabilities", None if self.template is None else probe(self.template))


def load_model_text(directory: Path) -> ModelText:
    """Read the text files of a model directory.

    Raises:
        TokenizerError: the tokenizer is missing or unreadable.
        TemplateError: the chat template is not valid.
        CheckpointError: a configuration file is corrupt.
    """
    tokenizer = load_tokenizer(directory)
    text = ModelText(tokenizer, load_chat_template(directory), generation_defaults(directory, tokenizer))
    found = "the model has none" if text.capabilities is None else text.capabilities.summary()
    logger.info("chat template of %s: %s", directory.name, found)
    return text
