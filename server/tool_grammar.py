"""The grammar that holds an answer to the tools of its request."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec
from server.parsing.tool_format import Demand, Tool, ToolFormat

Check: TypeAlias = Callable[[GrammarSpec], Awaitable[None]]
"""Raises InvalidRequestError for a grammar that the model cannot follow."""


async def tool_grammar(
    tool_format: ToolFormat, tools: Sequence[Tool], offered: Collection[str], demand: Demand, check: Check
) -> GrammarSpec:
    """A grammar that has passed the check.

    Arguments of strict tools always follow their schema. So do those of the others where calls are required, as far as
    a grammar can be made of their schemas; otherwise they are any JSON object, since only `strict` promises more.

    Args:
        tool_format: of the model.
        tools: of the request, in its order.
        offered: names of those that may be called, one at least.
        demand: what is asked of the answer.
        check: of the model.

    Raises:
        InvalidRequestError: a strict tool cannot be enforced (`param` names it), or there are too many or too complex
            ones.
    """
    open_names: set[str] = set() if demand.required else {tool.name for tool in tools if not tool.strict}

    async def attempt() -> GrammarSpec:
        shown = [
            tool._replace(parameters=None) if tool.name in open_names else tool
            for tool in tools
            if tool.name in offered
        ]
        spec = GrammarSpec(GrammarKind.TREE, json.dumps(tool_format.grammar(shown, demand), ensure_ascii=False))
        await check(spec)
        return spec

    try:
        return await attempt()
    except InvalidRequestError as refusal:
        refused = await _refused(tools, offered, open_names, check) or _loose(tools, offered) - open_names
        if not refused:
            raise InvalidRequestError(
                f"The tools cannot be enforced together. {refusal.message}", param="tools", code=refusal.code
            ) from None
    open_names |= refused
    try:
        return await attempt()
    except InvalidRequestError as refusal:
        raise InvalidRequestError(
            f"The tools cannot be enforced together. {refusal.message}", param="tools", code=refusal.code
        ) from None


async def _refused(
    tools: Sequence[Tool], offered: Collection[str], open_names: Collection[str], check: Check
) -> set[str]:
    """The tools whose schemas are to blame; none of them is strict."""
    names = set()
    for index, tool in enumerate(tools):
        if tool.parameters is None or tool.name not in offered or tool.name in open_names:
            continue
        reason = await _refusal(tool.parameters, check)
        if reason is not None and tool.strict:
            raise InvalidRequestError(
                f"Invalid schema for function '{tool.name}': {reason}",
                param=f"tools[{index}].function.parameters",
                code="invalid_function_parameters",
            )
        if reason is not None:
            names.add(tool.name)
    return names


async def _refusal(schema: Mapping[str, object], check: Check) -> str | None:
    """Why no grammar can be made of a schema; None if one can."""
    try:
        await check(GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(schema, ensure_ascii=False)))
    except InvalidRequestError as error:
        return error.message
    return None


def _loose(tools: Sequence[Tool], offered: Collection[str]) -> set[str]:
    """The offered tools that are not strict."""
    return {tool.name for tool in tools if not tool.strict and tool.name in offered}
