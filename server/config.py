"""Settings of the HTTP side, in the style of `engine/config.py`: each field carries its own documentation."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from engine.config import setting
from engine.errors import ConfigError
from engine.logs import LogFormat, LogLevel

DumpChoice = Literal["all", "errors", "slow"]
SwitchMode = Literal["replace", "beside"]
ReasoningField = Literal["reasoning_content", "reasoning"]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")


def secret(doc: str) -> Any:
    """A setting of several values that are never shown."""
    return field(default=(), repr=False, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server listens, who may use it, and the limits it keeps.

    Raises:
        ConfigError: a value is out of range, or the server would be open to the network without a key.
    """

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port to listen on; 0 picks a free one")
    served_model_name: tuple[str, ...] = setting(
        (), "names the model answers to, the first one shown in answers; default is the model's own"
    )
    api_key: tuple[str, ...] = secret(
        "keys that clients may send; without any the server is open, which is allowed on a loopback address only"
    )
    admin_key: tuple[str, ...] = secret("keys that open everything, the routes for whoever runs the server included")
    metrics_key: tuple[str, ...] = secret("keys that open /metrics only; without any, users' keys open it too")
    api_key_file: str = setting(
        "", "file of keys, one KEY, admin:KEY or metrics:KEY per line; read again when it changes"
    )
    cors_origins: tuple[str, ...] = setting(
        (), "origins of web pages that may call the API from a browser, as in https://example.org; none by default"
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "names accepted in the Host header while no key is set, besides this machine's own (localhost and the "
        "address listened on); no others are, which keeps web pages from reaching a local server",
    )
    ssl_certfile: str = setting("", "certificate and chain in PEM; with one the server speaks HTTPS only")
    ssl_keyfile: str = setting("", "private key of the certificate in PEM, if not in the same file")
    ssl_keyfile_password: str = field(
        default="", repr=False, metadata={"doc": "password of the private key, where it is encrypted"}
    )
    ssl_ca_certs: str = setting("", "authorities in PEM; with them every client must show a certificate of theirs")
    ping_interval: float = setting(15.0, "seconds between keep-alive comments in a stream")
    max_body_bytes: int = setting(16 * 1024 * 1024, "largest request body")
    stall_timeout: float = setting(
        60.0,
        "seconds a client may leave full buffers unread, or, up to twice that, not go on with a request it has begun, "
        "before it is cut off",
    )
    keep_alive_timeout: int = setting(
        75,
        "seconds a connection stays open on which nothing is asked; should be longer than clients and proxies keep "
        "theirs, so that no request meets its end",
    )
    shutdown_timeout: float = setting(10.0, "seconds running answers get to finish when the server is told to end")
    switch: SwitchMode = setting(
        "replace",
        "how another model is loaded: replace ends the present one first; beside ends it once the other is ready, "
        "which takes memory for both",
    )
    turn_seconds: float = setting(
        10.0, "seconds a model that is in use stays loaded before it gives way to one that others wait for"
    )
    drain_timeout: float = setting(
        60.0, "seconds running answers get to finish when their model has to go; then they end with an error"
    )
    idle_timeout: float = setting(
        0.0, "seconds without a request after which the model is unloaded, until the next one for it; 0 means never"
    )
    model_dir: str = setting("", "folder whose models the admin API may load by their path below it")
    log_level: LogLevel = setting("info", "least severe messages to log")
    log_format: LogFormat = setting("text", "how to log: text for people, json for machines, one object per line")
    dump_requests: str = setting(
        "", "folder to write requests and what became of them to, for bug reports and `quire replay`; off without one"
    )
    dump_which: DumpChoice = setting(
        "all", "which to write: all, those that failed or broke off, or those that took dump_slow_seconds"
    )
    dump_slow_seconds: float = setting(10.0, "seconds from which a request counts as slow")
    dump_content: bool = setting(
        False, "keep texts of prompts and answers in dumps; otherwise filler of the same length takes their place"
    )
    dump_max_files: int = setting(1000, "most dumps; the oldest are removed")
    dump_max_bytes: int = setting(256 * 1024 * 1024, "most bytes of all dumps; the oldest are removed")
    repair_roles: bool = setting(
        True,
        "give messages other roles, or join them, where the model's chat template would refuse them or leave them out",
    )
    reasoning_field: ReasoningField = setting(
        "reasoning_content", "field of an answer that holds the reasoning, where the request does not say"
    )
    reasoning_budget_message: str = setting(
        "", "text that is written for the model at the end of its reasoning when the budget for it is used up"
    )
    root_path: str = setting("", "path prefix a reverse proxy strips before it hands requests on")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be between 0 and 65535, not {self.port}.")
        if not self.ping_interval > 0:
            raise ConfigError(f"ping_interval must be above 0 seconds, not {self.ping_interval}.")
        if not self.stall_timeout > 0:
            raise ConfigError(f"stall_timeout must be above 0 seconds, not {self.stall_timeout}.")
        if self.keep_alive_timeout < 1:
            raise ConfigError(f"keep_alive_timeout must be at least 1 second, not {self.keep_alive_timeout}.")
        if self.max_body_bytes < 1:
            raise ConfigError(f"max_body_bytes must be at least 1, not {self.max_body_bytes}.")
        if not self.shutdown_timeout >= 0:
            raise ConfigError(f"shutdown_timeout must not be negative, not {self.shutdown_timeout}.")
        if self.dump_which not in get_args(DumpChoice):
            raise ConfigError(f"dump_which must be one of {', '.join(get_args(DumpChoice))}, not '{self.dump_which}'.")
        if self.reasoning_field not in get_args(ReasoningField):
            choices = ", ".join(get_args(ReasoningField))
            raise ConfigError(f"reasoning_field must be one of {choices}, not '{self.reasoning_field}'.")
        if not self.dump_slow_seconds >= 0:
            raise ConfigError(f"dump_slow_seconds must not be negative, not {self.dump_slow_seconds}.")
        for name in ("dump_max_files", "dump_max_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.switch not in get_args(SwitchMode):
            raise ConfigError(f"switch must be one of {', '.join(get_args(SwitchMode))}, not '{self.switch}'.")
        for name in ("turn_seconds", "drain_timeout", "idle_timeout"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be seconds, 0 or more, not {getattr(self, name)}.")
        if self.log_level not in get_args(LogLevel):
            raise ConfigError(f"log_level must be one of {', '.join(get_args(LogLevel))}, not '{self.log_level}'.")
        if self.log_format not in get_args(LogFormat):
            raise ConfigError(f"log_format must be one of {', '.join(get_args(LogFormat))}, not '{self.log_format}'.")
        if not all(self.served_model_name):
            raise ConfigError("served_model_name must not contain an empty name.")
        if not self.ssl_certfile and (self.ssl_keyfile or self.ssl_ca_certs):
            raise ConfigError("ssl_keyfile and ssl_ca_certs have no effect without ssl_certfile; set that too.")
        self._check_access()

    @property
    def needs_key(self) -> bool:
        """Whether clients must send a key."""
        return bool(self.api_key or self.admin_key or self.api_key_file)

    def _check_access(self) -> None:
        for name in ("api_key", "admin_key", "metrics_key"):
            for key in getattr(self, name):
                check_key(key, name)
        if not self.needs_key:
            if self.metrics_key:
                raise ConfigError("metrics_key alone would leave nobody a key to the model. Set api_key as well.")
            if not is_loopback(self.host):
                raise ConfigError(
                    f"Listening on {self.host} would open the server to the network without a key. Set one with "
                    "--api-key, QUIRE_API_KEY or --api-key-file, or listen on 127.0.0.1."
                )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"cors_origins must be like https://example.org, without a path, not '{origin}'.")


def check_key(key: str, name: str) -> None:
    """Refuse what no client can send in a header.

    Args:
        key: the key, which is never part of the message.
        name: what to call it in the message.

    Raises:
        ConfigError: it is empty or has other than visible ASCII characters.
    """
    if not key or not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"{name} must hold keys of visible ASCII characters without spaces.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
