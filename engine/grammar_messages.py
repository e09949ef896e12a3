"""What passes between a server and the process that tries grammars for it, besides the grammars themselves."""

from __future__ import annotations

from typing import NamedTuple


class Vocabulary(NamedTuple):
    """The first message to a process; it answers with a verdict once it is ready."""

    tokens: tuple[bytes, ...]  # bytes of each token
    special: frozenset[int]
    end_token_ids: tuple[int, ...]


class GrammarVerdict(NamedTuple):
    """Why a grammar cannot be used; None if it can."""

    refusal: str | None
