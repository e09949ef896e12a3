from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantize.evaluate import EvalReport
from quire import cli
from quire.commands import eval as eval_command

REPORT = EvalReport(
    model="M",
    reference=None,
    text="T",
    perplexity=12.5,
    reference_perplexity=None,
    kl_mean=None,
    kl_standard_error=None,
    kl_p99=None,
    top1_agreement=None,
    tokens=93,
    windows=3,
    length=32,
    length_requested=512,
    weight_format="exl2",
    bits_per_weight=4.0,
    head_bits_per_weight=6.0,
    kernels="torch",
)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands to the evaluation, instead of an evaluation."""
    seen: dict[str, Any] = {}

    def take(model: Path, text: Path, reference: Path | None, **options: Any) -> EvalReport:
        seen.update(options, model=model, text=text, reference=reference)
        return REPORT

    monkeypatch.setattr(eval_command, "evaluate", take)
    return seen


def test_settings_come_from_every_place(job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "quire.toml"
    file.write_text('[engine]\nmodel = "elsewhere"\nthreads = 3\nignore_config_keys = ["a"]\n')
    monkeypatch.setenv("QUIRE_KERNELS", "torch")
    monkeypatch.setenv("QUIRE_THREADS", "2")
    assert cli.main(["eval", str(tmp_path), "--text", "t", "--config", str(file), "--threads", "1"]) == 0
    assert (job["backend"].name, job["backend"].threads) == ("torch", 1)
    assert (job["model"], job["text"], job["ignore_config_keys"]) == (tmp_path, Path("t"), ("a",))


def test_a_shorter_context_is_mentioned(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", str(tmp_path), "--text", "t"]) == 0
    assert "3 windows of 32, the context, instead of 512 (T)" in capsys.readouterr().out
    assert cli.main(["eval", str(tmp_path), "--text", "t", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["length_requested"] == 512


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ([], 2, "Name a text to measure on with --text FILE."),
        (["--text", "t", "--length", "1"], 2, "length must be between 2 and"),
        (["--text", "t", "--rows", "0"], 2, "rows must be between 1 and"),
        (["--text", "t", "--rows", "9" * 4000], 2, "rows must be between 1 and"),
        (["--text", "t", "--length", "1e308"], 2, "--length must be a whole number, not '1e308'."),
        (["--text", "t", "--reference", "/no/such"], 1, "There is no directory /no/such"),
    ],
)
def test_eval_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], status: int, message: str
) -> None:
    assert cli.main(["eval", str(tmp_path), *flags]) == status
    assert capsys.readouterr().err.startswith(f"error: {message}")
