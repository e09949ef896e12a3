"""Which tools a request offers, and how it wants them used: its fields, checked and in one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import InvalidRequestError
from server.field_errors import missing
from server.parsing.tool_format import Tool
from server.schemas.tools import FunctionDefinition, NamedTool, ToolChoice, ToolDefinition, ToolFields

MAX_TOOLS = 128
"""Most tools of a request (the limit of the OpenAI API)."""

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Tools that are offered.

    Attributes:
        definitions: as chat templates are shown them.
        tools: the same, as formats of calls want them.
        offered: names of those that may be called; one at least, if there are tools.
        required: whether one must be called.
        parallel: whether an answer may have several calls.
    """

    definitions: tuple[Mapping[str, Any], ...]
    tools: tuple[Tool, ...]
    offered: frozenset[str]
    required: bool
    parallel: bool

    @property
    def restricted(self) -> bool:
        """Whether showing the tools to the model is not enough for what the request says."""
        strict = any(tool.strict for tool in self.tools if tool.name in self.offered)
        return self.required or strict or not self.parallel or len(self.offered) < len(self.tools)


NO_TOOLS = ToolUse((), (), frozenset(), required=False, parallel=True)
"""None are offered."""


def wanted_tools(body: ToolFields) -> ToolUse | None:
    """What a request says about tools; None if none may be called, with which the model is shown none either.

    Raises:
        InvalidRequestError: it is wrong or not supported; `param` names the place.
    """
    functions = [_function(each, f"tools[{index}]") for index, each in enumerate(body.tools or ())]
    _check_names(functions)
    choice = body.tool_choice
    if not functions:
        _check_no_choice(choice)
        return None
    if choice == "none":
        return None
    offered, required, several = _chosen(choice, functions)
    return ToolUse(
        definitions=tuple(_definition(each) for each in functions),
        tools=tuple(Tool(each.name, each.parameters, each.strict or False) for each in functions),
        offered=frozenset(offered),
        required=required,
        parallel=several and body.parallel_tool_calls is not False,
    )


def _function(tool: ToolDefinition, place: str) -> FunctionDefinition:
    _check_type(tool.type, f"{place}.type", ("function",))
    if tool.function is None:
        raise missing(f"{place}.function")
    _check_parameters(tool.function.parameters, f"{place}.function.parameters")
    return tool.function


def _check_names(functions: Sequence[FunctionDefinition]) -> None:
    if len(functions) > MAX_TOOLS:
        raise InvalidRequestError(
            f"'tools' has {len(functions)} entries; at most {MAX_TOOLS} are accepted.", param="tools"
        )
    first: dict[str, int] = {}
    for index, function in enumerate(functions):
        before = first.setdefault(function.name, index)
        if before != index:
            param = f"tools[{index}].function.name"
            raise InvalidRequestError(
                f"'{param}': there is a tool named '{function.name}' already, tools[{before}].", param=param
            )


def _check_no_choice(choice: str | ToolChoice | None) -> None:
    if choice not in (None, "none", "auto"):
        raise InvalidRequestError("'tool_choice' asks for a tool, but there are none in 'tools'.", param="tool_choice")


def _chosen(choice: str | ToolChoice | None, functions: Sequence[FunctionDefinition]) -> tuple[set[str], bool, bool]:
    """Names of the tools that may be called, whether one must be, and whether several calls make sense."""
    names = {each.name for each in functions}
    if not isinstance(choice, ToolChoice):
        return names, choice == "required", True
    if choice.type != "allowed_tools":
        return {_named(choice, "tool_choice", names, ("function", "allowed_tools"))}, True, False
    allowed = choice.allowed_tools
    if allowed is None:
        raise missing("tool_choice.allowed_tools")
    places = ((f"tool_choice.allowed_tools.tools[{index}]", each) for index, each in enumerate(allowed.tools))
    return {_named(each, place, names) for place, each in places}, allowed.mode == "required", True


def _named(tool: NamedTool, place: str, names: set[str], types: Sequence[str] = ("function",)) -> str:
    _check_type(tool.type, f"{place}.type", types)
    if tool.function is None:
        raise missing(f"{place}.function")
    name = tool.function.name
    if name not in names:
        param = f"{place}.function.name"
        raise InvalidRequestError(f"'{param}': there is no tool named '{name[:64]}' in 'tools'.", param=param)
    return name


def _check_type(given: str, param: str, known: Sequence[str]) -> None:
    if given not in known:
        wanted = " or ".join(f"'{each}'" for each in known)
        raise InvalidRequestError(
            f"'{param}': tools of type '{given[:40]}' are not supported by this server; it must be {wanted}.",
            param=param,
            code="unsupported_parameter" if given == "custom" else "invalid_value",
        )


def _check_parameters(schema: Mapping[str, Any] | None, param: str) -> None:
    """Refuse what cannot be the schema of an object; the rest of it shows when it is compiled, if it has to be."""
    if schema is None:
        return
    properties, required = schema.get("properties"), schema.get("required")
    reason = None
    if schema.get("type", "object") != "object":
        reason = "its 'type' must be 'object', since arguments have names"
    elif properties is not None and not _are_schemas(properties):
        reason = "its 'properties' must be an object of schemas"
    elif required is not None and not _are_names(required):
        reason = "its 'required' must be a list of names"
    else:
        try:
            json.dumps(schema, allow_nan=False)
        except ValueError:
            reason = "it holds NaN or infinity, which are not JSON"
    if reason is not None:
        raise InvalidRequestError(
            f"'{param}' is not a JSON Schema of arguments: {reason}.", param=param, code="invalid_value"
        )


def _are_schemas(properties: object) -> bool:
    return isinstance(properties, dict) and all(isinstance(each, dict | bool) for each in properties.values())


def _are_names(required: object) -> bool:
    return isinstance(required, list) and all(isinstance(each, str) for each in required)


def _definition(function: FunctionDefinition) -> Mapping[str, Any]:
    """What models are shown: the fields they were trained with, in their usual order."""
    described = {} if function.description is None else {"description": function.description}
    parameters = _NO_PARAMETERS if function.parameters is None else function.parameters
    return {"type": "function", "function": {"name": function.name, **described, "parameters": parameters}}
