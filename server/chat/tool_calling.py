"""The tools of a request, as the model at hand calls them, and how it is held to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec, SamplingParams
from server.chat.tool_use import NO_TOOLS, ToolUse, wanted_tools
from server.parsing.base import StreamParser
from server.parsing.one_call import OneCall
from server.parsing.tool_format import Demand, Part
from server.schemas.tools import ToolFields
from server.structured import WantedGrammar
from server.text import ModelText
from server.tool_grammar import Check, tool_grammar


@dataclass(frozen=True, slots=True)
class ToolCalling:
    """How a model calls the tools of a request.

    Attributes:
        use: the tools.
        text: of the model.
    """

    use: ToolUse
    text: ModelText

    @property
    def special(self) -> Mapping[str, int]:
        """Markers of calls that are special tokens of the model, with their ids."""
        tokenizer = self.text.tokenizer
        ids = {marker: tokenizer.token_to_id(marker) for marker in self.text.tool_format.markers}
        return {marker: each for marker, each in ids.items() if each is not None and each in tokenizer.special_ids}

    def parser(self) -> StreamParser:
        """Finds the calls in the text of one choice."""
        parser = self.text.tool_format.parser(self.use.tools)
        # parsers know more ways to write calls than the grammar lets through, so it alone does not keep this promise
        return parser if self.use.parallel else OneCall(parser)

    async def sampling(self, without: SamplingParams, answer: WantedGrammar | None, check: Check) -> SamplingParams:
        """How to answer with these tools.

        Args:
            without: how to answer if there were none.
            answer: what the answer must look like where it has no calls.
            check: of the model.

        Raises:
            InvalidRequestError: a tool cannot be enforced, or does not go with what else is wanted.
        """
        grammar = await self._grammar(answer, check)
        return replace(without, grammar=grammar, shown_special_tokens=tuple(self.special.values()))

    async def _grammar(self, answer: WantedGrammar | None, check: Check) -> GrammarSpec | None:
        use = self.use
        if not use.tools:
            return None if answer is None else answer.spec
        if answer is None and not use.restricted:
            return None
        part = None if answer is None or use.required else _part(answer)
        demand = Demand(required=use.required, parallel=use.parallel, special=self.special, answer=part)
        return await tool_grammar(self.text.tool_format, use.tools, use.offered, demand, check)


def tool_calling(body: ToolFields, text: ModelText) -> ToolCalling | None:
    """The tools of a request, for this model; None if none may be called and its answers are plain text then.

    Raises:
        InvalidRequestError: as `wanted_tools`.
    """
    use = wanted_tools(body)
    if use is None and text.frames_answers:
        use = NO_TOOLS
    return None if use is None else ToolCalling(use, text)


def _part(answer: WantedGrammar) -> Part:
    """A grammar as a part of a larger one."""
    source = answer.spec.source
    match answer.spec.kind:
        case GrammarKind.JSON_OBJECT:
            return {"type": "json", "schema": {"type": "object"}}
        case GrammarKind.JSON_SCHEMA:
            return {"type": "json", "schema": _loaded(source)}
        case GrammarKind.REGEX:
            return {"type": "regex", "pattern": source}
        case GrammarKind.CHOICE:
            return {"type": "choice", "of": [{"type": "text", "text": each} for each in _loaded(source)]}
        case _:
            raise InvalidRequestError(
                f"'{answer.param}' of this kind does not go with tools that may be called. Set 'tool_choice' to 'none' "
                "or 'required', or give a JSON schema, a regular expression or choices.",
                param=answer.param,
            )


def _loaded(source: str) -> Any:
    return json.loads(source)  # it has been compiled before
