"""Reading requirements and versions, as far as Quire's own metadata goes: `name[extra]>=1.2` and `name==1.2`.

The full grammar is the `packaging` library's, which the doctor does without: it may be what is missing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*(>=\s*(?P<minimum>[0-9][0-9.]*))?")
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)")


class Requirement(NamedTuple):
    """A package, by its normalized name, and the oldest version that will do; `0` where any will."""

    name: str
    minimum: str


def parse_requirement(text: str) -> Requirement | None:
    """A requirement from package metadata, or None if it belongs to an extra."""
    requirement, _, marker = text.partition(";")
    found = _REQUIREMENT.match(requirement.strip())
    if found is None or "extra" in marker:
        return None
    return Requirement(normalized(found["name"]), found["minimum"] or "0")


def parse_pins(text: str) -> dict[str, str]:
    """Version of each package, by normalized name, from lines `name==version`."""
    found = (_PIN.match(line.strip()) for line in text.splitlines())
    return {normalized(each["name"]): each["version"] for each in found if each is not None}


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, so that versions compare; what follows them (`+cpu`, `rc1`) is left out."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()  # 2.0 is 2
    return tuple(numbers)


def normalized(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
