"""Several sizes from one measurement, plans, and measurements brought along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ConfigError, QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.job import QuantizeOptions, plan_model, quantize_model
from quantize.measurement_file import read_measurement
from quantize.report import read_report
from quantize.report_page import report_page
from quantize.source_model import open_source
from tests.quantize.models import NoProgress, SilentProgress, write_dense_model, write_text


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> QuantizeOptions:
    folder = tmp_path_factory.mktemp("sizes")
    model = write_dense_model(folder / "model", tied=False)
    (model / "README.md").write_text("# A model\n")
    text = write_text(folder / "text.txt", words=6000)
    return QuantizeOptions(
        model, folder / "out", (3.0, 4.25), rows=6, length=48, calibration=(str(text),), check_rows=2, threads=1
    )


@pytest.fixture(scope="module")
def made(options: QuantizeOptions) -> SilentProgress:
    progress = SilentProgress()
    quantize_model(options, progress=progress)
    return progress


def test_each_size_has_a_directory_and_all_share_a_measurement(options: QuantizeOptions, made: SilentProgress) -> None:
    found = {path.name for path in options.out.parent.iterdir()}
    assert found == {"model", "text.txt", "out-3.0bpw", "out-4.25bpw"}
    stages = [name for name, _ in made.stages]
    assert stages.count("Measuring") == 1
    assert "Quantizing to 3 bits" in stages
    assert "Quantizing to 4.25 bits" in stages
    assert [total for _, total in made.stages] == made.done
    reports = [read_report(options.out_of(bpw) / "quantization_report.json") for bpw in options.bpw]
    assert [report.bpw_requested for report in reports] == [3.0, 4.25]
    assert all(report.bpw <= report.bpw_requested < report.bpw + 0.1 for report in reports)
    divergences = [report.check.figures.kl_mean for report in reports if report.check]
    assert len(divergences) == 2
    assert divergences[0] > divergences[1] > 0  # type: ignore[operator]


def test_a_single_size_writes_the_same(
    options: QuantizeOptions, made: SilentProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(options.source)
    alone = replace(options, source=Path(), bpw=(4.25,), out=tmp_path / "out")
    (report,) = quantize_model(alone, progress=NoProgress())
    assert report.source == "model"
    name = "output.safetensors"
    assert (alone.out / name).read_bytes() == (options.out_of(4.25) / name).read_bytes()


def test_the_report_is_there_in_every_form(options: QuantizeOptions, made: SilentProgress) -> None:
    folder = options.out_of(3.0)
    report = read_report(folder / "quantization_report.json")
    assert report.check is not None
    assert report.check.held_out
    assert report.check.rows == 2
    assert report.versions.keys() == {"quire", "torch", "python"}
    assert {
        "preflight",
        "calibration",
        "measurement",
        "quantization",
        "writing",
        "verification",
    } <= report.seconds.keys()
    card = (folder / "README.md").read_text()
    assert card.startswith("# A model\n\n## Quantization\n")
    assert f"{report.check.figures.kl_mean:.5f} nats" in card
    page = (folder / "quantization_report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert page.count('class="heat"') == 14
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "&lt;b&gt;" in report_page(replace(report, warnings=("<b>",)))


def test_a_plan_is_what_the_job_then_does(options: QuantizeOptions, tmp_path: Path) -> None:
    job = replace(options, out=tmp_path / "out", override=("layers.0.self_attn.*=4",), source_name="org/name")
    plans = plan_model(job, progress=NoProgress())
    assert [plan.bpw_requested for plan in plans] == [3.0, 4.25]
    assert plans[0].damage > plans[1].damage > 0
    first = [each.bits_per_weight for each in plans[0].matrices if ".layers.0.self_attn" in each.name]
    assert sum(first) / len(first) == pytest.approx(4, abs=0.6)
    assert [path.name for path in tmp_path.iterdir()] == ["out.work"]
    progress = SilentProgress()
    reports = quantize_model(job, progress=progress)
    assert "Measuring" not in [name for name, _ in progress.stages]
    for plan, report in zip(plans, reports, strict=True):
        assert report.source == "org/name"
        assert report.bpw == plan.bpw
        assert [each.bits_per_weight for each in report.matrices] == [each.bits_per_weight for each in plan.matrices]
        assert report.weight_bytes == pytest.approx(plan.weight_bytes, rel=0.1)


def test_a_finished_model_brings_its_measurement(
    options: QuantizeOptions, made: SilentProgress, tmp_path: Path
) -> None:
    given, progress = options.out_of(3.0) / "measurement.json", SilentProgress()
    assert given.read_bytes() == (options.out_of(4.25) / "measurement.json").read_bytes()
    plan_model(replace(options, out=tmp_path / "out", bpw=(3.5,), measurement=given), progress=progress)
    assert "Measuring" not in [name for name, _ in progress.stages]


def test_a_measurement_can_be_brought_along(options: QuantizeOptions, tmp_path: Path) -> None:
    job = replace(options, out=tmp_path / "out")
    expected = plan_model(job, progress=NoProgress())
    given = tmp_path / "out.work" / "measurement.json"
    progress = SilentProgress()
    again = plan_model(replace(job, out=tmp_path / "other", measurement=given), progress=progress)
    assert again == expected
    assert "Measuring" not in [name for name, _ in progress.stages]
    model = write_dense_model(tmp_path / "model", inner=64)
    with pytest.raises(QuantizationError, match="was measured on another model"):
        plan_model(replace(job, source=model, out=tmp_path / "third", measurement=given), progress=NoProgress())
    sibling = write_dense_model(tmp_path / "sibling", tied=False, seed=1)
    with pytest.raises(QuantizationError, match=r"was measured on another model: .* same shapes, but other weights"):
        plan_model(replace(job, source=sibling, out=tmp_path / "third", measurement=given), progress=NoProgress())
    with pytest.raises(QuantizationError, match=r"The measurement .*nowhere\.json does not exist"):
        plan_model(replace(job, out=tmp_path / "none", measurement=tmp_path / "nowhere.json"), progress=NoProgress())
    given.write_text("{}")
    with pytest.raises(QuantizationError, match="no measurement of this version"):
        plan_model(replace(job, out=tmp_path / "fourth", measurement=given), progress=NoProgress())


def test_exllamav2_measurements_are_read(options: QuantizeOptions, tmp_path: Path) -> None:
    source = open_source(Checkpoint.open(options.source), load_config(options.source), TorchBackend(), 8, tmp_path)

    def option(modules: tuple[str, ...], bits: int, accuracy: float) -> dict[str, object]:
        parameters = {"group_size": {str(bits): 32}, "bits": [bits], "bits_prop": [1], "scale_bits": 4}
        return {"accuracy": accuracy, "total_bits": 1, **dict.fromkeys(modules, parameters)}

    blocks = {
        f"model.layers.{layer}.{block}": [option(modules, 3, 0.8), option(modules, 5, 0.97)]
        for layer in range(2)
        for block, modules in {
            "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
            "mlp": ("gate_proj", "up_proj", "down_proj"),
        }.items()
    }
    path = tmp_path / "measurement.json"
    path.write_text(json.dumps({"measurement": {**blocks, "lm_head": None}, "last_module_idx": 9}))
    choices = read_measurement(path, source.shapes, "any").choices
    assert [len(each.names) for each in choices] == [4, 3, 4, 3]
    assert [[round(option.error, 3) for option in each.options] for each in choices] == [[0.2, 0.03]] * 4
    assert choices[0].options[1].layouts[0][0].bits == 5
    (plan,) = plan_model(replace(options, bpw=(4.7,), out=tmp_path / "out", measurement=path), progress=NoProgress())
    assert 4.0 < plan.bpw <= 4.7
    assert "ExLlamaV2, which does not say of which model" in plan.warnings[-1]
    del blocks["model.layers.1.mlp"]
    path.write_text(json.dumps({"measurement": blocks}))
    with pytest.raises(QuantizationError, match=r"says nothing of 'model\.layers\.1\.mlp'"):
        read_measurement(path, source.shapes, "any")


def test_sizes_may_change_until_one_is_begun(options: QuantizeOptions, tmp_path: Path) -> None:
    job = replace(options, out=tmp_path / "out")
    plan_model(job, progress=NoProgress())
    progress = SilentProgress()
    (plan,) = plan_model(replace(job, bpw=(5.0,), head_bits=8, override=("*.o_proj=6",)), progress=progress)
    assert 4.9 < plan.bpw <= 5.0
    assert "Measuring" not in [name for name, _ in progress.stages]
    with pytest.raises(QuantizationError, match="seed was 0 and is now 1"):
        plan_model(replace(job, bpw=(5.0,), seed=1), progress=NoProgress())


def test_sizes_must_differ(options: QuantizeOptions) -> None:
    with pytest.raises(ConfigError, match="bpw names a size twice"):
        replace(options, bpw=(4.0, 4.0))
    with pytest.raises(ConfigError, match="bpw must have a value"):
        replace(options, bpw=())


def test_one_taken_directory_stops_all_sizes(options: QuantizeOptions, tmp_path: Path) -> None:
    job = replace(options, out=tmp_path / "out")
    job.out_of(4.25).mkdir()
    (job.out_of(4.25) / "file").touch()
    with pytest.raises(QuantizationError, match=r"out-4\.25bpw: already exists"):
        quantize_model(job, progress=NoProgress())
    assert [path.name for path in tmp_path.iterdir()] == ["out-4.25bpw"]
