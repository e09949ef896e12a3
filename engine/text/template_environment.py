"""The jinja2 sandbox chat templates run in, with the helpers real templates expect.

Templates come with the model and are trusted as little as possible: they run in jinja2's immutable sandbox, see plain
JSON values only, and may write no more than `MAX_RENDERED_CHARS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import TemplateError

MAX_RENDERED_CHARS = 16 * 1024 * 1024
"""Longest text a template may produce; far beyond any model's context."""

FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a template's own expressions can raise."""

_FILENAME = "<template>"  # what jinja2 calls a template made from a string in its tracebacks


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`, which marks assistant text for training, renders just its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return Scope(body, lineno=line)


def compile_template(source: str, clock: Callable[[], datetime]) -> jinja2.Template:
    """Compile one chat template.

    Args:
        source: the jinja2 text.
        clock: what `strftime_now` reads.

    Raises:
        TemplateError: it is not a valid template; names the line.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: clock().strftime(form)
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as problem:
        raise TemplateError(f"The chat template is not valid: {problem.message}", line=problem.lineno) from None
    except RecursionError:
        raise TemplateError("The chat template is nested too deeply.") from None


def run_template(template: jinja2.Template, variables: Mapping[str, object]) -> str:
    """Render a compiled template.

    Raises:
        TemplateError: the template refused its input (`raise_exception`), failed, or wrote too much.
    """
    pieces: list[str] = []
    length = 0
    try:
        for piece in template.generate(dict(variables)):
            length += len(piece)
            if length > MAX_RENDERED_CHARS:
                raise TemplateError(f"The chat template wrote more than {MAX_RENDERED_CHARS} characters.")
            pieces.append(piece)
    except FAILURES as problem:
        text = str(problem) or type(problem).__name__
        raised = type(problem) is jinja2.TemplateError  # by raise_exception: the message is meant for the reader
        raise TemplateError(
            text if raised else f"The chat template failed: {type(problem).__name__}: {text}", line=_line(problem)
        ) from None
    return "".join(pieces)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike jinja2's own filter: keeps the order of keys and escapes neither HTML nor Unicode."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _line(problem: BaseException) -> int | None:
    """Line of the template a failure happened in; jinja2 puts the template's frames into the traceback."""
    line = None
    trace = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILENAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
