"""The probes, run in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import NativeLibraryError
from engine.ops.native_library import BuildTools
from engine.ops.self_test import KernelReport, try_native_kernels
from engine.ops.torch_build import CudaDevice, TorchBuild, describe_torch
from quire import demo_model
from quire.doctor import kernel_probe, model_probe, settings_probe, torch_probe
from quire.doctor.finding import Finding
from quire.doctor.native import check_compiler


def levels(findings: list[Finding]) -> dict[str, str]:
    return {each.subject: each.level for each in findings}


def only(findings: list[Finding], subject: str) -> Finding:
    (found,) = [each for each in findings if each.subject == subject]
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model, to be damaged."""
    return Path(shutil.copytree(demo_model.demo_model(), tmp_path / "model"))


def test_a_sound_model(model: Path) -> None:
    findings = list(model_probe.check([str(model)]))
    assert set(levels(findings).values()) == {"ok"}
    assert set(levels(findings)) == {"model config", "model tensors", "tokenizer", "chat template", "model memory"}


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (finding,) = model_probe.check([str(tmp_path / "none")])
    assert finding.level == "problem"


def test_a_config_that_is_no_json(model: Path) -> None:
    (model / "config.json").write_text("{")
    (finding,) = model_probe.check([str(model)])
    assert (finding.level, finding.subject) == ("problem", "model config")


def test_a_truncated_download(model: Path) -> None:
    (weights,) = model.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    findings = list(model_probe.check([str(model)]))
    assert levels(findings)["model tensors"] == "problem"
    assert weights.name in only(findings, "model tensors").fact
    assert levels(findings)["tokenizer"] == "ok"
    assert "model memory" not in levels(findings)  # another machine would be no help


def test_a_config_of_another_size(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"intermediate_size": config["intermediate_size"] + 32}))
    assert levels(list(model_probe.check([str(model)])))["model tensors"] == "problem"


def test_a_tokenizer_of_another_model(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 64}))
    assert levels(list(model_probe.check([str(model)])))["tokenizer"] == "problem"


def test_a_template_that_is_broken_or_missing(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{% if")
    assert levels(list(model_probe.check([str(model)])))["chat template"] == "problem"
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text("{}")
    assert levels(list(model_probe.check([str(model)])))["chat template"] == "warning"


def test_a_model_larger_than_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ops.cpu_memory.free_memory", lambda: 2**20)
    finding = only(list(model_probe.check([str(model)])), "model memory")
    assert finding.level == "problem"
    assert "1.0 MiB are free" in finding.fact


def test_the_cache_follows_the_settings(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_KV_CACHE_TOKENS", "4096")
    assert "(4096 tokens in float16)" in only(list(model_probe.check([str(model)])), "model memory").fact


def test_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_API_KEY", "secret")
    (finding,) = settings_probe.check([])
    assert (finding.level, finding.fact) == ("ok", "from the environment: QUIRE_API_KEY")
    monkeypatch.setenv("QUIRE_HOST", "0.0.0.0")
    assert next(settings_probe.check([])).level == "ok"
    monkeypatch.setenv("QUIRE_API_KEY", "")
    (finding,) = settings_probe.check([])
    assert finding.level == "problem"
    assert "without a key" in finding.fact


def test_an_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_PROT", "1")
    (finding,) = settings_probe.check([])
    assert finding.level == "problem"
    assert "QUIRE_PROT" in finding.fact


def test_kernels_that_are_right_wrong_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_probe.judge(KernelReport("cpu-avx2", 1, 1e-7)).level == "ok"
    assert kernel_probe.judge(KernelReport("cpu-avx2", 1, 0.1)).level == "problem"
    assert kernel_probe.judge(KernelReport("cpu-avx2", 1, float("inf"))).level == "problem"

    def missing() -> None:
        raise NativeLibraryError("is not built")

    monkeypatch.setattr(kernel_probe, "describe_library", missing)
    (finding,) = kernel_probe.check([])
    assert (finding.level, finding.fact) == ("warning", "is not built")


@pytest.mark.parametrize(
    ("tools", "level", "words"),
    [
        (BuildTools("/usr/bin/c++", ("c++",), built=False), "ok", "/usr/bin/c++"),
        (BuildTools(None, ("c++",), built=True), "ok", "none is needed"),
        (BuildTools(None, ("c++", "g++"), built=False), "warning", "none of c++, g++ is installed"),
    ],
)
def test_a_compiler_is_missed_only_where_nothing_is_built(tools: BuildTools, level: str, words: str) -> None:
    finding = check_compiler(tools)
    assert finding.level == level
    assert words in finding.fact


def test_the_kernels_here_are_right() -> None:
    try:
        report = try_native_kernels()
    except NativeLibraryError as missing:
        pytest.skip(str(missing))
    assert report.right
    assert 0 < report.error < 1e-5


def test_this_torch_is_described() -> None:
    build = describe_torch()
    assert build.version[0].isdigit()
    assert {each.level for each in torch_probe.check([])} <= {"ok", "warning"}


GPU = CudaDevice("H200", (9, 0), 141 * 10**9, supported=True)


@pytest.mark.parametrize(
    ("build", "driver", "level", "words"),
    [
        (TorchBuild("2", None, (), ""), None, "ok", "on the CPU"),
        (TorchBuild("2", None, (), ""), "580.1", "warning", "build without CUDA"),
        (TorchBuild("2", "13.0", (), "too old"), "470.1", "warning", "470.1): too old"),
        (TorchBuild("2", "13.0", (GPU,), ""), "580.1", "ok", "capability 9.0, driver 580.1"),
        (TorchBuild("2", "13.0", (CudaDevice("K80", (3, 7), 1, False),), ""), "1", "problem", "no kernels for it"),
    ],
)
def test_gpus(build: TorchBuild, driver: str | None, level: str, words: str) -> None:
    (finding,) = torch_probe.check_gpus(build, driver)
    assert finding.level == level
    assert words in finding.fact


def test_the_driver_says_its_version(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert torch_probe.driver_version(file) is None
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12.2.0"
    )
    assert torch_probe.driver_version(file) == "580.65.06"
