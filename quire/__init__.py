"""Quire: serve and make EXL2-quantized language models.

`from quire import LLM, SamplingParams` is the offline interface. They are loaded when they are first asked for, so
that importing `quire` (the command line does) stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.import_names import check_import_names
from quire.version import __version__

if TYPE_CHECKING:
    from engine.llm import LLM
    from engine.pooling import PoolingParams
    from engine.reasoning import ReasoningSpec
    from engine.types import GrammarKind, GrammarSpec, SamplingParams

__all__ = ["LLM", "GrammarKind", "GrammarSpec", "PoolingParams", "ReasoningSpec", "SamplingParams", "__version__"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'quire' has no attribute '{name}'")
    check_import_names()
    if name == "LLM":
        from engine.llm import LLM

        return LLM
    from engine import types

    return getattr(types, name)
