"""Dumps of requests (`quire serve --dump-requests`), read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from server.dumps.describe import FORMAT, VERSION


@dataclass(frozen=True, slots=True)
class Dump:
    """One request, and what became of it.

    Attributes:
        name: of its file.
        received: when it came, in Unix seconds.
        path: of the route.
        body: as it is sent again, with the seed that was used; None if it was no JSON.
        content_kept: whether `body` and `texts` are the client's own and not filler.
        reproducible: whether one seed tells all that was drawn.
        status: of the answer; 499 if the client left before it.
        error: code of the error it was or ended with.
        prompt_tokens: of all prompts; None if nothing was generated.
        completion_tokens: of all choices.
        finish_reasons: of each choice, None where it was broken off.
        texts: of each choice; None unless content was kept.
        seconds: how long it took.
    """

    name: str
    received: float
    path: str
    body: Mapping[str, Any] | None
    content_kept: bool
    reproducible: bool
    status: int
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reasons: tuple[str | None, ...]
    texts: tuple[str, ...] | None
    seconds: float


def read_dump(path: Path) -> Dump:
    """Read a dump.

    Raises:
        ConfigError: the file cannot be read, or is no dump of a version known here.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}.") from None
    except ValueError:
        raise ConfigError(f"{path} is no dump of a request: it is not JSON.") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigError(f"{path} is no dump of a request as quire serve --dump-requests writes them.")
    if found.get("version") != VERSION:
        raise ConfigError(f"{path} is a dump of version {found.get('version')}; this Quire reads version {VERSION}.")
    try:
        return _dump(path.name, found)
    except (KeyError, TypeError) as problem:
        raise ConfigError(f"{path} is a damaged dump; it lacks {problem}.") from None


def _dump(name: str, found: dict[str, Any]) -> Dump:
    response, generation, body = found["response"], found["generation"] or {}, found["body"]
    seeds = set(generation.get("seeds", ()))
    if isinstance(body, dict) and len(seeds) == 1:
        body = {**body, "seed": min(seeds)}
    usage = generation.get("usage", {})
    texts = response["texts"]
    return Dump(
        name=name,
        received=found["received_unix"],
        path=found["path"],
        body=body if isinstance(body, dict) else None,
        content_kept=found["content_kept"],
        reproducible=len(seeds) == 1,
        status=response["status"],
        error=(response["error"] or {}).get("code"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        finish_reasons=tuple(generation.get("finish_reasons", ())),
        texts=None if texts is None else tuple(texts),
        seconds=response["seconds"],
    )
