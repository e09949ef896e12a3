"""The keys of the server: those in its settings, and those in a file that may change while it runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from engine.errors import ConfigError
from server.config import ServerConfig, check_key
from server.scopes import AccessScope

logger = logging.getLogger(__name__)

KEY_SCOPES = (AccessScope.USER, AccessScope.ADMIN, AccessScope.METRICS)

Digests = tuple[tuple[bytes, AccessScope], ...]
Signature = tuple[int, int, int]
"""Time of change, size and inode of a file: what differs once it has been written again."""


class KeyRing:
    """Tells which scope a key opens.

    Args:
        config: holds the keys, and names the key file.

    Raises:
        ConfigError: the key file cannot be used, or a key stands in two scopes.
    """

    def __init__(self, config: ServerConfig) -> None:
        own = [(key, AccessScope.USER) for key in config.api_key]
        own += [(key, AccessScope.ADMIN) for key in config.admin_key]
        own += [(key, AccessScope.METRICS) for key in config.metrics_key]
        self._own = own
        self._file = Path(config.api_key_file).expanduser() if config.api_key_file else None
        self._seen: Signature | None = None
        self._keys: Digests = _digests(own, "the settings")
        if self._file is not None:
            self._seen = _signature(self._file)
            self._keys = self._with_file(self._file)

    @property
    def empty(self) -> bool:
        """Whether there is no key at all, so that the server is open."""
        return not self._keys

    def caller(self, offered: str) -> str | None:
        """A name for whoever sends this key, the same while the key is; None for no key of ours.

        Where there are no keys everybody is the same caller.
        """
        if self.empty:
            return ""
        return None if self.scope_of(offered) is None else _digest(offered).hex()

    def scope_of(self, offered: str) -> AccessScope | None:
        """The scope of a key as a client sent it, or None for no key of ours.

        Takes the same time whichever key it is, and however much of one was guessed.
        """
        self._reload_if_changed()
        digest = _digest(offered)
        found: AccessScope | None = None
        for known, scope in self._keys:
            if hmac.compare_digest(digest, known):
                found = scope
        return found

    def grants(self, key: AccessScope, route: AccessScope) -> bool:
        """Whether a key of one scope opens a route of another.

        An admin's key opens everything. A user's key opens the metrics too while no key is set aside for them.
        """
        if route is AccessScope.PUBLIC or key in (route, AccessScope.ADMIN):
            return True
        return (key, route) == (AccessScope.USER, AccessScope.METRICS) and not self._has(AccessScope.METRICS)

    def _has(self, scope: AccessScope) -> bool:
        return any(each is scope for _, each in self._keys)

    def _reload_if_changed(self) -> None:
        if self._file is None:
            return
        signature = _signature(self._file)
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._keys = self._with_file(self._file)
        except ConfigError as problem:
            logger.error("%s The keys stay as they were.", problem)
        else:
            logger.info("read %s again; valid keys: %d", self._file, len(self._keys))

    def _with_file(self, file: Path) -> Digests:
        return _digests([*self._own, *read_key_file(file)], str(file))


def read_key_file(file: Path) -> list[tuple[str, AccessScope]]:
    """Keys and their scopes: one `scope:key`, or a user's `key`, per line; `#` begins a line that is a comment.

    Raises:
        ConfigError: the file cannot be read, has no key, or a line is none. Keys are never part of the message.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise ConfigError(f"The key file {file} cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The key file {file} is not UTF-8 text.") from None
    keys = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and not line.startswith("#"):
            keys.append(_key_of_line(line, f"Line {number} of the key file {file}"))
    if not keys:
        raise ConfigError(f"The key file {file} has no key. Write one on each line, as KEY or admin:KEY.")
    return keys


def _key_of_line(line: str, where: str) -> tuple[str, AccessScope]:
    name, colon, key = line.partition(":")
    if not colon:
        name, key = AccessScope.USER.value, line
    if name not in KEY_SCOPES:
        scopes = ", ".join(f"{scope.value}:" for scope in KEY_SCOPES)
        raise ConfigError(f"{where} begins with no scope ({scopes}). Write user:KEY for a key with a colon in it.")
    check_key(key.strip(), where)
    return key.strip(), AccessScope(name)


def _digests(keys: Iterable[tuple[str, AccessScope]], where: str) -> Digests:
    """Digests have one length, so that comparing them does not tell that of a key."""
    scopes: dict[bytes, AccessScope] = {}
    for key, scope in keys:
        if scopes.setdefault(_digest(key), scope) is not scope:
            raise ConfigError(f"A key in {where} has two scopes: {scopes[_digest(key)].value} and {scope.value}.")
    return tuple(scopes.items())


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _signature(file: Path) -> Signature | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
