from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from engine.errors import ConfigError
from quire import demo_model
from quire.commands import doctor
from quire.doctor.finding import Finding, ok, problem, warning


def find(monkeypatch: pytest.MonkeyPatch, *found: Finding) -> list[tuple[str, int, str | None]]:
    """Have the doctor find these; gives what it was asked to look at."""
    asked = []

    def findings(host: str, port: int, model: str | None) -> Iterator[Finding]:
        asked.append((host, port, model))
        yield from found

    monkeypatch.setattr(doctor, "findings", findings)
    return asked


def test_only_problems_make_the_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find(monkeypatch, ok("a", "fine"), warning("b", "slow", "do this"))
    assert doctor.run([]) == 0
    assert "no problems, 1 warning\n" in capsys.readouterr().out
    find(monkeypatch, problem("c", "broken\n twice", "do that"))
    assert doctor.run([]) == 1
    assert capsys.readouterr().out == (
        "PROBLEM  c                 broken twice\n                           -> do that\n\n1 problem, no warnings\n"
    )


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find(monkeypatch, ok("a", "fine"), problem("c", "broken", "do that"))
    assert doctor.run(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"][1] == {"level": "problem", "subject": "c", "fact": "broken", "advice": "do that"}


def test_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = find(monkeypatch)
    doctor.run(["--host", "::1", "--port", "9", "a-model"])
    doctor.run([])
    assert asked == [("::1", 9, "a-model"), ("127.0.0.1", 8000, None)]


@pytest.mark.parametrize("port", ["x", "70000", "-1"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(ConfigError, match="--port"):
        doctor.run([f"--port={port}"])


def test_this_installation_with_the_demo_model() -> None:
    """The whole of it, in child processes as users run it."""
    found = list(doctor.findings("127.0.0.1", 0, str(demo_model.demo_model())))
    assert not [each for each in found if each.level == "problem"]
    subjects = [each.subject for each in found]
    assert len(subjects) == len(set(subjects))
    assert {"python", "import names", "packages", "files", "torch", "GPU", "compiler", "native library", "processor",
            "memory", "port 0", "temporary files", "hub cache", "settings", "model config", "model tensors",
            "tokenizer", "chat template", "model memory"} <= set(subjects)  # fmt: skip
