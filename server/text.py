"""The text side of a model, which lives in the server process: tokenizer, chat template, generation defaults."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from engine.text.chat_template import ChatTemplate, load_chat_template
from engine.text.defaults import GenerationDefaults, generation_defaults
from engine.text.template_capabilities import TemplateCapabilities, probe
from engine.text.tokenizer import Tokenizer, load_tokenizer
from server.parsing.cohere import CohereFormat
from server.parsing.generic import GenericFormat
from server.parsing.harmony import HarmonyFormat
from server.parsing.reasoning import ReasoningFormat, choose_reasoning
from server.parsing.table import choose
from server.parsing.tool_format import ToolFormat

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelText:
    """What turns requests into token ids.

    Attributes:
        tokenizer: of the model.
        template: how conversations become prompts; None if the model brings none.
        defaults: values for what a request leaves open.
        tool_format_name: which format of tool calls the model has, as in `EngineConfig.tool_format`.
        reasoning_format_name: how the model marks its reasoning, as in `EngineConfig.reasoning_format`.
        capabilities: what the template makes of conversations; None without one.
        tool_format: how the model writes tool calls.
        reasoning: how the model marks its reasoning; None if it is not known to reason.

    Raises:
        ConfigError: there is no such format.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    defaults: GenerationDefaults
    tool_format_name: str = "auto"
    reasoning_format_name: str = "auto"
    capabilities: TemplateCapabilities | None = field(init=False)
    tool_format: ToolFormat = field(init=False)
    reasoning: ReasoningFormat | None = field(init=False)

    def __post_init__(self) -> None:
        capabilities = None if self.template is None else probe(self.template)
        shows_tools = self.template is not None and capabilities is not None and capabilities.tools.taken
        object.__setattr__(self, "capabilities", capabilities)
        source = self.template.tool_source if self.template is not None and shows_tools else ""
        object.__setattr__(self, "tool_format", choose(source, self.tool_format_name))
        reasoning = choose_reasoning(self.template, self.tokenizer, self.reasoning_format_name)
        object.__setattr__(self, "reasoning", reasoning)

    @property
    def shows_tools(self) -> bool:
        """Whether tools go to the template. Those of a model whose notation is not known do not, since the template
        would ask for calls that nobody could read."""
        if self.capabilities is None or not self.capabilities.tools.taken:
            return False
        return not isinstance(self.tool_format, GenericFormat) or self.capabilities.needs_tools

    @property
    def frames_answers(self) -> bool:
        """Whether the model writes answers in the format of its calls even if there are no tools."""
        return isinstance(self.tool_format, HarmonyFormat | CohereFormat)


def load_model_text(directory: Path, tool_format: str = "auto", reasoning_format: str = "auto") -> ModelText:
    """Read the text files of a model directory.

    Args:
        directory: of the model.
        tool_format: as in `EngineConfig`.
        reasoning_format: likewise.

    Raises:
        ConfigError: there is no such format.
        TokenizerError: the tokenizer is missing or unreadable.
        TemplateError: the chat template is not valid.
        CheckpointError: a configuration file is corrupt.
    """
    tokenizer = load_tokenizer(directory)
    template, defaults = load_chat_template(directory), generation_defaults(directory, tokenizer)
    text = ModelText(tokenizer, template, defaults, tool_format, reasoning_format)
    found = "the model has none" if text.capabilities is None else text.capabilities.summary()
    reasoning = "none" if text.reasoning is None else text.reasoning.name
    said = (directory.name, found, text.tool_format.name, reasoning)
    logger.info("chat template of %s: %s; tool calls as in %s; reasoning as in %s", *said)
    return text
