"""Settings of the HTTP side, in the style of `engine/config.py`: each field carries its own documentation."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Literal, get_args

from engine.config import setting
from engine.errors import ConfigError

LogLevel = Literal["debug", "info", "warning", "error"]


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
    api_key: str = field(
        default="",
        repr=False,
        metadata={
            "doc": "key that clients must send; empty leaves the server open, allowed on a loopback address only"
        },
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "names accepted in the Host header while no key is set, besides this machine's own (localhost and the "
        "address listened on); no others are, which keeps web pages from reaching a local server",
    )
    ping_interval: float = setting(15.0, "seconds between keep-alive comments in a stream")
    max_body_bytes: int = setting(16 * 1024 * 1024, "largest request body")
    shutdown_timeout: float = setting(10.0, "seconds running answers get to finish when the server is told to end")
    log_level: LogLevel = setting("info", "least severe messages to log")
    root_path: str = setting("", "path prefix a reverse proxy strips before it hands requests on")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be between 0 and 65535, not {self.port}.")
        if not self.ping_interval > 0:
            raise ConfigError(f"ping_interval must be above 0 seconds, not {self.ping_interval}.")
        if self.max_body_bytes < 1:
            raise ConfigError(f"max_body_bytes must be at least 1, not {self.max_body_bytes}.")
        if not self.shutdown_timeout >= 0:
            raise ConfigError(f"shutdown_timeout must not be negative, not {self.shutdown_timeout}.")
        if self.log_level not in get_args(LogLevel):
            raise ConfigError(f"log_level must be one of {', '.join(get_args(LogLevel))}, not '{self.log_level}'.")
        if not all(self.served_model_name):
            raise ConfigError("served_model_name must not contain an empty name.")
        if not self.api_key and not is_loopback(self.host):
            raise ConfigError(
                f"Listening on {self.host} would open the server to the network without a key. Set one with "
                "--api-key or QUIRE_API_KEY, or listen on 127.0.0.1."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
