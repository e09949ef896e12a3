"""The grammar that holds an answer to the tools of its request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from engine.errors import InvalidRequestError
from engine.types import GrammarKind, GrammarSpec
from server.parsing.grammar_text import grammar_text
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

    async def grammar(*only: Tool) -> GrammarSpec:
        """Of these tools, or of all that are offered."""
        shown = [
            tool._replace(parameters=None) if tool.name in open_names else tool
            for tool in only or tools
            if tool.name in offered
        ]
        part = tool_format.grammar(shown, demand)
        spec = GrammarSpec(GrammarKind.TREE, grammar_text(part))
        await check(spec)
        return spec

    try:
        return await grammar()
    except InvalidRequestError as refusal:
        held = [tool for tool in tools if tool.name in offered and tool.name not in open_names]
        reasons = {tool.name: await _reason(grammar(tool)) for tool in held}
        _refuse_strict(tools, reasons)
        to_blame = {name for name, reason in reasons.items() if reason is not None}
        open_names |= to_blame or {tool.name for tool in held if not tool.strict}
        if not to_blame and all(tool.strict for tool in held):
            raise _too_much(refusal) from None
    try:
        return await grammar()
    except InvalidRequestError as refusal:
        raise _too_much(refusal) from None


async def _reason(attempt: Awaitable[GrammarSpec]) -> str | None:
    """Why there is no grammar; None if there is one."""
    try:
        await attempt
    except InvalidRequestError as error:
        return error.message
    return None


def _refuse_strict(tools: Sequence[Tool], reasons: Mapping[str, str | None]) -> None:
    for index, tool in enumerate(tools):
        reason = reasons.get(tool.name)
        if tool.strict and reason is not None:
            raise InvalidRequestError(
                f"Invalid schema for function '{tool.name}': {reason}",
                param=f"tools[{index}].function.parameters",
                code="invalid_function_parameters",
            )


def _too_much(refusal: InvalidRequestError) -> InvalidRequestError:
    message = f"The tools cannot be enforced together. {refusal.message}"
    return InvalidRequestError(message, param="tools", code=refusal.code)
