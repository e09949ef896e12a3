from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig
from engine.errors import QuantizationError
from quantize.calibration import TextGenerator
from quantize.exl2.layout import Group
from quantize.matrix_report import MatrixReport
from quantize.options import QuantizeOptions
from quantize.planning import PlannedMatrix, SizePlan
from quantize.progress import Progress
from quantize.report import QuantizeReport
from quantize.self_check import SelfCheck
from quantize.tally import Figures
from quire import cli
from quire.commands import quantize
from tests.quantize.models import write_dense_model, write_text

MATRIX = MatrixReport("layer", 32, 32, ((4, 32),), 4.1, 0.05, 1)
REPORT = QuantizeReport(
    source="IN",
    out="OUT",
    bpw_requested=4.0,
    bpw_total=False,
    bpw=3.998,
    head_bits=6,
    head_bpw=6.05,
    counted_bpw=3.998,
    weight_bytes=3 << 20,
    recipe="default",
    seed=0,
    overrides=(),
    calibration={"rows": 3, "length": 64, "dataset": "a.txt"},
    damage=0.01,
    check=SelfCheck(Figures(5.5, 5.0, 0.0123, 0.001, 0.1, 0.97, 63), 1, 64, held_out=True),
    matrices=(MATRIX, MATRIX),
    warnings=("too few rows",),
    versions={"quire": "1", "torch": "2"},
    seconds={"measurement": 1.0, "quantization": 2.0},
)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands to the quantizer, instead of a quantizer."""
    seen: dict[str, Any] = {}

    def take(
        options: QuantizeOptions, *, progress: Progress, generator: TextGenerator | None
    ) -> tuple[QuantizeReport, ...]:
        seen.update(options=options, generator=generator)
        progress.stage("Quantizing", 1)
        return (REPORT,)

    monkeypatch.setattr(quantize, "quantize_model", take)
    return seen


def test_flags_reach_the_job(job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    text = tmp_path / "a.txt"
    flags = ["--bpw", "3.5", "--head-bits", "8", "--rows", "3", "--length", "64", "--calibration", str(text)]
    assert cli.main(["quantize", str(tmp_path), str(out), *flags]) == 0
    assert job["options"] == QuantizeOptions(
        tmp_path, out, (3.5,), 8, rows=3, length=64, calibration=(str(text),), source_name=tmp_path.name
    )
    assert job["generator"] is None
    captured = capsys.readouterr()
    assert "3.998 of the 4 asked for; head 6.050" in captured.out
    assert "too few rows" in captured.out
    assert "0.01230 nats; 97.0% likeliest tokens agree" in captured.out
    assert "Quantizing: begins" in captured.err


def test_without_a_text_the_model_writes_its_own(job: dict[str, Any], tmp_path: Path) -> None:
    assert cli.main(["quantize", str(tmp_path), "out"]) == 0
    assert job["generator"] is not None


def test_json(job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quantize", str(tmp_path), "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bpw"] == 3.998


PLAN = SizePlan(
    bpw_requested=9.0,
    bpw=8.1,
    head_bits=6,
    head_bpw=6.3,
    counted_bpw=8.1,
    weight_bytes=5 << 20,
    damage=0.0123,
    range=(2.1, 8.6),
    matrices=(PlannedMatrix("model.layers.0.self_attn.q_proj", 8.1, {8: 64}),),
    warnings=("More would not make it better.",),
    plan={"model.layers.0.self_attn.q_proj": (Group(8, 64),)},
)


def test_a_plan_is_printed_and_nothing_made(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(options: QuantizeOptions, *, progress: Progress, generator: object) -> tuple[SizePlan, ...]:
        return (PLAN,) * len(options.bpw)

    monkeypatch.setattr(quantize, "plan_model", plan)
    command = ["quantize", str(tmp_path), str(tmp_path / "out"), "--calibration", "t:2,u", "--plan", "--bpw", "9,8"]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.count("8.100 of the 9 asked for; head 6.300") == 2
    assert "2.100 to 8.600" in captured.out
    assert "q_proj 8.100  8b:64" in captured.out
    assert "warning      More would not make it better." in captured.out
    assert "the same command without --plan goes on from there" in captured.err
    assert cli.main([*command, "--json"]) == 0
    assert [each["damage"] for each in json.loads(capsys.readouterr().out)] == [0.0123, 0.0123]
    assert not job


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bpw", "nan"], "--bpw must be a finite number"),
        (["--bpw", "99"], "bpw must be between 1 and 16"),
        (["--bpw", "3,x"], "--bpw must be a finite number, not 'x'"),
        (["--override", "q_proj"], "override must be PATTERN=BITS"),
        (["--calibration", ""], "--calibration is empty. Give it a value, or leave it out"),
        (["--override", ", "], "--override is empty"),
        (["--calibration", ":2"], "calibration must be FILE or FILE:WEIGHT, not ':2'"),
        (["--calibration", "a.txt:0"], "calibration must be FILE or FILE:WEIGHT"),
        (["--head-bits", "7"], "head_bits must be one of 2, 3, 4, 5, 6, 8"),
        (["--bpv", "4"], "Unknown option --bpv. Did you mean --bpw?"),
    ],
)
def test_bad_flags(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert cli.main(["quantize", str(tmp_path), "out", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not job


def test_settings_of_the_machine_and_the_model_come_from_every_place(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[EngineConfig] = []
    monkeypatch.setattr(quantize, "open_text_generator", written.append)
    file = tmp_path / "quire.toml"
    file.write_text('[engine]\nthreads = 2\nignore_config_keys = ["a", "b"]\nmax_model_len = 5\n')
    monkeypatch.setenv("QUIRE_KERNELS", "torch")
    monkeypatch.setenv("QUIRE_THREADS", "3")
    assert cli.main(["quantize", str(tmp_path), "out", "--config", str(file)]) == 0
    assert (job["options"].threads, job["options"].ignore_config_keys) == (3, ("a", "b"))
    expected = EngineConfig(str(tmp_path), kernels="torch", threads=3, ignore_config_keys=("a", "b"))
    assert written == [expected]  # and no limit that is meant for serving
    assert cli.main(["quantize", str(tmp_path), "out", "--threads", "4", "--ignore-config-keys", "c"]) == 0
    assert (job["options"].threads, job["options"].ignore_config_keys) == (4, ("c",))


RUN = """
import sys
from quire import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupted_job_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    model, text = write_dense_model(tmp_path / "model", layers=3), write_text(tmp_path / "text.txt", words=3000)
    flags = ["--calibration", str(text), "--rows", "16", "--length", "64", "--threads", "1"]
    command = ["quantize", str(model), str(tmp_path / "out"), *flags]
    process = subprocess.Popen([sys.executable, "-c", RUN, *command], stderr=subprocess.PIPE, text=True)
    work = tmp_path / "out.work"
    while process.poll() is None and not (work / "calibration.safetensors").exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == f"Interrupted. What is done is kept in {work}: the same command goes on from there."
    assert not (tmp_path / "out").exists()
    assert cli.main(command) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model", "text.txt", "out"}


def test_an_interruption_that_a_library_made_an_error_of_is_still_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: QuantizeOptions, *, progress: Progress, generator: TextGenerator | None) -> None:
        (tmp_path / "out.work").mkdir()
        (tmp_path / "out.work" / "job.json").touch()
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise QuantizationError("The file is damaged.") from None

    monkeypatch.setattr(quantize, "quantize_model", fail)
    assert cli.main(["quantize", str(tmp_path), str(tmp_path / "out"), "--calibration", "a.txt"]) == 130
    said = capsys.readouterr().err
    assert "Interrupted. What is done is kept in" in said
    assert "damaged" not in said


def test_from_float_to_exl2_and_back(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The way a user goes: quantize with the model's own text, measure, write dense, measure again."""
    source, exl2, dense = shared / "models" / "stories260k-pad192", tmp_path / "exl2", tmp_path / "dense"
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time, there was a little girl named Lily. She loved to play outside. " * 40)

    def quire(*arguments: object) -> str:
        assert cli.main([*map(str, arguments)]) == 0
        return capsys.readouterr().out

    def measured(model: Path) -> dict[str, float]:
        measure = ("--text", text, "--reference", source, "--rows", 2, "--length", 64, "--threads", 1, "--json")
        found: dict[str, float] = json.loads(quire("eval", model, *measure))
        return found

    quire("quantize", source, exl2, "--bpw", 5, "--rows", 4, "--length", 64, "--threads", 1)
    assert "float16" in quire("convert", exl2, dense, "--to", "dense")
    first, second = measured(exl2), measured(dense)
    assert first["bits_per_weight"] <= 5
    assert 0 < first["kl_mean"] < 0.5
    assert second["perplexity"] == pytest.approx(first["perplexity"], rel=0.02)
