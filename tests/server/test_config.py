from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from engine.config import documentation
from engine.errors import ConfigError
from server.config import ServerConfig, is_loopback


def test_every_setting_is_documented() -> None:
    assert all(documentation(ServerConfig).values())
    assert documentation(ServerConfig).keys() == {each.name for each in fields(ServerConfig)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("ping_interval", 0.0),
        ("ping_interval", float("nan")),
        ("max_body_bytes", 0),
        ("shutdown_timeout", -1.0),
        ("stall_timeout", 0.0),
        ("keep_alive_timeout", 0),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("served_model_name", ("a", "")),
        ("ssl_keyfile", "key.pem"),
        ("api_key", ("has space",)),
        ("api_key", ("",)),
        ("admin_key", ("schlüssel",)),
        ("metrics_key", ("m",)),
        ("cors_origins", ("example.org",)),
        ("cors_origins", ("https://example.org/",)),
        ("cors_origins", ("*",)),
    ],
)
def test_values_out_of_range_are_named(name: str, value: Any) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=name):
        ServerConfig(**settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.lan"])
def test_open_to_the_network_only_with_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="--api-key"):
        ServerConfig(host=host)
    assert ServerConfig(host=host, api_key=("secret",)).host == host


@pytest.mark.parametrize("settings", [{"admin_key": ("a",)}, {"api_key_file": "/run/secrets/keys"}])
def test_other_ways_to_have_a_key(settings: dict[str, Any]) -> None:
    assert ServerConfig(host="0.0.0.0", **settings).needs_key
    assert not ServerConfig().needs_key


def test_loopback_addresses() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.5.5.5", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", ""))


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(ServerConfig(api_key=("secret1",), admin_key=("secret2",), metrics_key=("secret3",)))
    with pytest.raises(ConfigError) as problem:
        ServerConfig(api_key=("secret key",))
    assert "secret" not in str(problem.value)
