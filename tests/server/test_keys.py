from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from server.config import ServerConfig
from server.keys import KeyRing, read_key_file
from server.scopes import AccessScope

USER, ADMIN, METRICS = AccessScope.USER, AccessScope.ADMIN, AccessScope.METRICS


def ring(**settings: Any) -> KeyRing:
    return KeyRing(ServerConfig(**settings))


def rewrite(file: Path, text: str) -> None:
    """As editors and secret stores do it: a new file takes the place of the old one."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, file)


def test_each_key_has_its_scope() -> None:
    keys = ring(api_key=("a", "b"), admin_key=("c",), metrics_key=("d",))
    assert [keys.scope_of(key) for key in "abcd"] == [USER, USER, ADMIN, METRICS]
    assert not keys.empty
    assert ring().empty


@given(st.text())
def test_nothing_else_is_a_key(offered: str) -> None:
    keys = ring(api_key=("a-key",), admin_key=("another-key",))
    assert keys.scope_of(offered) is ({"a-key": USER, "another-key": ADMIN}.get(offered))


def test_what_a_scope_grants() -> None:
    apart = ring(api_key=("u",), metrics_key=("m",))
    granted = {(key, route) for key in (USER, ADMIN, METRICS) for route in AccessScope if apart.grants(key, route)}
    public = {(key, AccessScope.PUBLIC) for key in (USER, ADMIN, METRICS)}
    assert granted == {*public, *((ADMIN, route) for route in AccessScope), (USER, USER), (METRICS, METRICS)}
    assert ring(api_key=("u",)).grants(USER, METRICS)
    assert not ring(api_key=("u",)).grants(USER, ADMIN)


def test_one_key_has_one_scope() -> None:
    with pytest.raises(ConfigError, match="two scopes: user and admin") as problem:
        ring(api_key=("secret",), admin_key=("secret",))
    assert "secret" not in str(problem.value)


def test_reads_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\nplain\n  user:with:colons\nadmin: spaced \nmetrics:m\n")
    expected = [("plain", USER), ("with:colons", USER), ("spaced", ADMIN), ("m", METRICS)]
    assert read_key_file(file) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "has no key"),
        (b"# nothing yet\n", "has no key"),
        (b"good\namdin:secret\n", "Line 2 .* begins with no scope"),
        (b"public:secret\n", "begins with no scope"),
        (b"admin:\n", "Line 1"),
        (b"my secret\n", "Line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_key_file_stops_the_start(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as raised:
        ring(api_key_file=str(file))
    assert "secret" not in str(raised.value)


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = ring(api_key=("fixed",), api_key_file=str(file))
    assert keys.scope_of("old") is USER
    rewrite(file, "new\nadmin:boss\n")
    assert [keys.scope_of(key) for key in ("old", "new", "boss", "fixed")] == [None, USER, ADMIN, USER]


@pytest.mark.parametrize("broken", ["", "no:scope\n", "admin:fixed\n", None])
def test_a_broken_file_keeps_the_keys_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = ring(api_key=("fixed",), api_key_file=str(file))
    if broken is None:
        file.unlink()
    else:
        rewrite(file, broken)
    assert [keys.scope_of("old"), keys.scope_of("old")] == [USER, USER]
    assert keys.scope_of("fixed") is USER
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "The keys stay as they were" in record.getMessage()
    rewrite(file, "mended\n")
    assert [keys.scope_of("old"), keys.scope_of("mended")] == [None, USER]


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("key\n")
    keys = ring(api_key_file=str(file))
    monkeypatch.setattr("server.keys.read_key_file", lambda _: pytest.fail("read again"))
    assert keys.scope_of("key") is USER
