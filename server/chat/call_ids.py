"""Ids of tool calls."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Iterable

_LENGTH = 24
_ALPHABET = string.ascii_letters + string.digits
_SANE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class CallIds:
    """Names the calls of one answer, all choices together; no id occurs twice in a conversation.

    Args:
        taken: ids of earlier calls of the conversation.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def name(self, own: str | None) -> str:
        """An id for the next call.

        Args:
            own: the id the model gave it, if it gave one; used if it is free and of a usual form.
        """
        name = own if own is not None and _SANE.fullmatch(own) else _drawn()
        while name in self._taken:
            name = _drawn()
        self._taken.add(name)
        return name


def _drawn() -> str:
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
