"""Fields that offer a model tools, and say which of them it is to call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from server.schemas.base import WireModel

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class FunctionDefinition(WireModel):
    """A function the model may call."""

    name: ToolName = Field(description="up to 64 letters, digits and _.-")
    description: str | None = Field(None, description="what it does; shown to the model")
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of its arguments")
    strict: bool | None = Field(None, description="whether every call's arguments must be valid against the schema")


class ToolDefinition(WireModel):
    """One of the tools; only functions are known."""

    type: str = Field(description="function")
    function: FunctionDefinition | None = Field(None, description="with type function")


class NamedFunction(WireModel):
    """A function by its name."""

    name: str = Field(description="of one of the tools")


class NamedTool(WireModel):
    """A tool by its name."""

    type: str = Field(description="function, or in tool_choice allowed_tools")
    function: NamedFunction | None = Field(None, description="with type function")


class AllowedTools(WireModel):
    """Some of the tools."""

    mode: Literal["auto", "required"] = Field(description="whether one of them must be called")
    tools: Annotated[list[NamedTool], Field(min_length=1)] = Field(description="which")


class ToolChoice(NamedTool):
    """A tool that must be called, or tools that may be."""

    allowed_tools: AllowedTools | None = Field(None, description="with type allowed_tools")


class ToolFields(WireModel):
    """Fields about tools."""

    tools: list[ToolDefinition] | None = Field(None, description="what the model may call")
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = Field(
        None, description="default auto with tools, else none"
    )
    parallel_tool_calls: bool | None = Field(
        None, description="whether one answer may have several calls; default true"
    )
