"""All ways to write tool calls that are known, and which of them a model uses."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import ConfigError
from server.parsing.cohere import CohereFormat
from server.parsing.deepseek import DeepSeek31Format, DeepSeekFormat
from server.parsing.function_json import FunctionJsonFormat
from server.parsing.generic import GenericFormat
from server.parsing.glm import GlmFormat
from server.parsing.granite import GraniteFormat
from server.parsing.harmony import HarmonyFormat
from server.parsing.hermes import HermesFormat
from server.parsing.json_tags import HUNYUAN, MINIMAX_M1, NEMOTRON
from server.parsing.kimi_k2 import KimiK2Format
from server.parsing.lfm2 import Lfm2Format
from server.parsing.llama3_json import Llama3JsonFormat
from server.parsing.minimax_m2 import MiniMaxM2Format
from server.parsing.mistral import MistralFormat, NamedMistralFormat
from server.parsing.phi4 import Phi4Format
from server.parsing.pythonic import PythonicFormat
from server.parsing.qwen3_coder import Qwen3CoderFormat
from server.parsing.seed_oss import SeedOssFormat
from server.parsing.tool_format import ToolFormat
from server.parsing.xlam import XlamFormat

FORMATS: Sequence[ToolFormat] = (
    HarmonyFormat(),
    NamedMistralFormat(),
    MistralFormat(),
    DeepSeek31Format(),
    DeepSeekFormat(),
    KimiK2Format(),
    CohereFormat(),
    Lfm2Format(),
    GraniteFormat(),
    Phi4Format(),
    NEMOTRON,
    HUNYUAN,
    MINIMAX_M1,
    GlmFormat(),
    SeedOssFormat(),
    MiniMaxM2Format(),
    Qwen3CoderFormat(),
    HermesFormat(),
    XlamFormat(),
    PythonicFormat(),
    FunctionJsonFormat(),
    Llama3JsonFormat(),
    GenericFormat(),
)
"""In the order in which they are asked whether they recognise a template; the first that does is taken. The last one
takes any."""

_NOT_READ = ("<tool_sep",)
"""Of templates whose calls are written in tags of a format above and yet in none of them: those of Hunyuan 3, which
has the keys of GLM behind a name and `<tool_sep>` (as vLLM's tests of its parser `hy_v3` show them)."""


def choose(template: str, override: str = "auto") -> ToolFormat:
    """The format of a model.

    Args:
        template: source of its chat template.
        override: name of a format, or `auto`, which lets the template decide.

    Raises:
        ConfigError: no format has this name.
    """
    if override == "auto":
        if any(tag in template for tag in _NOT_READ):
            return FORMATS[-1]
        return next(each for each in FORMATS if each.recognises(template))
    for each in FORMATS:
        if each.name == override:
            return each
    raise ConfigError(
        f"tool_format must be auto or one of {', '.join(each.name for each in FORMATS)}, not '{override}'."
    )
