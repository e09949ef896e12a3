"""Structural tags: free text in which certain beginnings open a part that must follow a schema. vLLM's notation:

    {"structures": [{"begin": "<f=add>", "schema": {…}, "end": "</f>"}, …], "triggers": ["<f=", …]}

As soon as the text has a trigger, the beginning of one of the structures that start with it must go on, then a JSON
text that is valid against its schema, then its end. After that the text is free again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.errors import InvalidRequestError

_TEXT = "/(?s:.*)/"


def structural_tag_to_lark(wanted: Any, json_rule: Callable[[Any], str]) -> str:
    """The grammar in Lark.

    Args:
        wanted: as above; a `type` beside it is not looked at.
        json_rule: from a schema to what stands for it on the right side of a rule.

    Raises:
        InvalidRequestError: it has another form, or a structure begins with no trigger.
    """
    structures, triggers = _checked(wanted)
    groups: dict[str, list[Mapping[str, Any]]] = {trigger: [] for trigger in triggers}
    for structure in structures:
        fitting = [trigger for trigger in triggers if structure["begin"].startswith(trigger)]
        if not fitting:
            raise _problem(f"the structure that begins with {structure['begin']!r} begins with none of the triggers")
        groups[min(fitting, key=len)].append(structure)  # of two triggers the shorter one is there first
    used = {trigger: group for trigger, group in groups.items() if group}
    lines = [f"start: ({' | '.join(f'tag{number}' for number in range(len(used)))})* TEXT", f"TEXT: {_TEXT}"]
    for number, (trigger, group) in enumerate(used.items()):
        bodies = [_in_order(each["begin"][len(trigger) :], json_rule(each["schema"]), each["end"]) for each in group]
        lines += [f"head{number}[lazy]: TEXT {_literal(trigger)}", f"tag{number}: head{number} ({' | '.join(bodies)})"]
    return "\n".join(lines)


def _checked(wanted: Any) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    if not isinstance(wanted, dict):
        raise _problem("it must be an object with 'structures' and 'triggers'")
    unknown = sorted(wanted.keys() - {"type", "structures", "triggers"})
    if unknown:
        raise _problem(f"'{unknown[0]}' is not supported; use 'structures' and 'triggers'")
    structures, triggers = wanted.get("structures"), wanted.get("triggers")
    if not isinstance(structures, list) or not structures:
        raise _problem("'structures' must be a list of one or more objects")
    if not isinstance(triggers, list) or not triggers or not all(isinstance(each, str) and each for each in triggers):
        raise _problem("'triggers' must be a list of one or more texts that are not empty")
    for structure in structures:
        if not isinstance(structure, dict) or structure.keys() != {"begin", "schema", "end"}:
            raise _problem("each of 'structures' must have 'begin', 'schema' and 'end', and nothing else")
        if not isinstance(structure["begin"], str) or not isinstance(structure["end"], str):
            raise _problem("'begin' and 'end' of a structure must be texts")
    return structures, triggers


def _in_order(beginning: str, schema: str, end: str) -> str:
    return " ".join(each for each in (_literal(beginning), schema, _literal(end)) if each)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _problem(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"The structural tag cannot be used: {message}.", param="grammar")
