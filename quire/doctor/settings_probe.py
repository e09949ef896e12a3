"""Probe: would the settings in the environment start a server?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from engine.errors import ConfigError
from quire.configuration import TABLES
from quire.doctor.finding import Finding, ok, problem
from quire.settings import ENVIRONMENT_PREFIX, from_environment, resolve

SUBJECT = "settings"


def check(_arguments: Sequence[str]) -> Iterator[Finding]:
    """Read the environment as `quire serve` does; takes no arguments."""
    try:
        source = from_environment(list(TABLES.values()), os.environ)
        for table in TABLES.values():
            resolve(table, [source])
    except ConfigError as wrong:
        yield problem(SUBJECT, str(wrong), "quire serve will refuse to start until the environment is put right.")
        return
    names = sorted(f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in source.values)
    yield ok(SUBJECT, f"from the environment: {', '.join(names)}" if names else "none in the environment")
