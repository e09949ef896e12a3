"""Errors that crossed the process boundary, raised again on this side."""

from __future__ import annotations

from engine import errors
from engine.errors import (
    ConstraintError,
    ContextLengthError,
    EngineDeadError,
    InvalidLogitsError,
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnloadedError,
    NoTokenError,
    QuireError,
    RequestCancelledError,
    RequestFailedError,
    RequestNotFoundError,
)

_WANT_MORE: dict[type[QuireError], type[QuireError]] = {
    ConstraintError: RequestFailedError,
    ContextLengthError: InvalidRequestError,
    InvalidLogitsError: RequestFailedError,
    ModelLoadError: QuireError,
    ModelNotFoundError: QuireError,
    ModelUnloadedError: EngineDeadError,
    NoTokenError: RequestFailedError,
    RequestCancelledError: QuireError,
    RequestNotFoundError: QuireError,
}
"""Classes that cannot be made from a message alone, and what stands in for them."""


def revive(kind: str, message: str) -> QuireError:
    """The error the engine process reported.

    Args:
        kind: name of its class in `engine/errors.py`.
        message: its message.

    Returns:
        An error of that class; of a base where the class wants more than a message.
    """
    found = getattr(errors, kind, None)
    if not (isinstance(found, type) and issubclass(found, QuireError)):
        return QuireError(message)
    if found in _WANT_MORE:
        found = _WANT_MORE[found]
    return found(message)
