"""Fields outside the schema: those that would change the answer are refused, the rest is named in a header."""

from __future__ import annotations

import logging
import re
from urllib.parse import quote

from engine.errors import InvalidRequestError
from server.field_errors import spell
from server.schemas.base import FieldPath, WireModel
from server.schemas.refused import REFUSED, REFUSED_BY_OTHER_ROUTES, RefusedField

logger = logging.getLogger(__name__)

IGNORED_HEADER = "x-quire-ignored-fields"
MAX_NAMED = 20
MAX_NAME = 100
MAX_REMEMBERED = 1000

_POSITION = re.compile(r"\[\d+\]")


def refuse_unsupported(body: WireModel) -> None:
    """Refuse what would silently change the meaning of the request.

    Raises:
        InvalidRequestError: naming the field, code `unsupported_parameter`.
    """
    for path, value in body.unknown_fields():
        field = _refused(path)
        if field is not None and not field.asks_for_nothing(value):
            raise InvalidRequestError(
                f"'{spell(path)}' is not supported by this server{field.hint}. Leave it out.",
                param=spell(path),
                code="unsupported_parameter",
            )


def _refused(path: FieldPath) -> RefusedField | None:
    name = str(path[-1])
    return REFUSED.get(name) or (REFUSED_BY_OTHER_ROUTES.get(name) if len(path) == 1 else None)


class IgnoredFields:
    """Tells clients, and once per name the log, which of their fields were not understood."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def headers(self, body: WireModel) -> dict[str, str]:
        """The header that names the unknown fields of a body; empty if there are none."""
        unknown = (path for path, _ in body.unknown_fields() if _refused(path) is None)
        names = [quote(spell(path)[:MAX_NAME], safe="[]") for path in unknown]
        if not names:
            return {}
        anywhere = dict.fromkeys(_POSITION.sub("[]", name) for name in names)
        fresh = [name for name in anywhere if name not in self._logged]
        # a client that makes names up must not fill the memory or the log
        if fresh and len(self._logged) < MAX_REMEMBERED:
            self._logged.update(fresh)
            logger.warning("ignoring unknown request fields: %s", ", ".join(fresh[:MAX_NAMED]))
        more = f", and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        return {IGNORED_HEADER: ", ".join(names[:MAX_NAMED]) + more}
