"""Whole jobs on small models: what comes out, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import CheckpointError, ConfigError, QuantizationError, QuireError, UnsupportedModelError
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.loader import load_model
from engine.ops.backend import Backend
from engine.ops.torch_backend import TorchBackend
from quantize.evaluate import EvalReport, evaluate
from quantize.job import QuantizeOptions, QuantizeReport, quantize_model
from quantize.source_model import SourceModel, open_source
from tests.quantize.models import SilentProgress, write_dense_model, write_text


@dataclass(frozen=True)
class Workplace:
    """A model, a text to calibrate on and another one to measure on."""

    model: Path
    calibration: Path
    other: Path

    def options(self, out: Path, bpw: float = 4.0, **changes: object) -> QuantizeOptions:
        options = QuantizeOptions(
            self.model, out, (bpw,), rows=8, length=64, calibration=(str(self.calibration),), threads=1
        )
        return replace(options, **changes)  # type: ignore[arg-type]

    def measure(self, quantized: Path) -> EvalReport:
        return evaluate(
            quantized, self.other, self.model, backend=TorchBackend(), progress=SilentProgress(), length=64, rows=8
        )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("quantize")
    return Workplace(
        write_dense_model(folder / "model"),
        write_text(folder / "calibration.txt", seed=1),
        write_text(folder / "other.txt", seed=2),
    )


@pytest.fixture(scope="module")
def made(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QuantizeReport, SilentProgress]:
    out, progress = tmp_path_factory.mktemp("made") / "model", SilentProgress()
    return out, quantize_model(workplace.options(out, 4.5), progress=progress)[0], progress


def test_the_result_loads_and_keeps_to_its_budget(made: tuple[Path, QuantizeReport, SilentProgress]) -> None:
    out, report, _ = made
    summary = load_model(out, TorchBackend()).summary
    assert summary.weight_format == "exl2"
    assert 4.4 < report.bpw <= 4.5
    assert summary.bits_per_weight == pytest.approx(report.bpw)
    assert report.weight_bytes == sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert [matrix.name for matrix in report.matrices][-1] == "lm_head"
    assert len(report.matrices) == 15
    assert all(0 < matrix.error < 0.5 for matrix in report.matrices)
    assert json.loads(report.to_json())["matrices"][0]["name"] == "model.layers.0.self_attn.q_proj"


def test_the_budget_may_include_the_head(workplace: Workplace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (report,) = quantize_model(workplace.options(out, 5.0, bpw_total=True), progress=SilentProgress())
    head = report.matrices[-1]
    assert 4.9 < report.counted_bpw <= 5.0
    bits = sum(matrix.stored_bits for matrix in report.matrices)
    weights = sum(matrix.in_features * matrix.out_features for matrix in report.matrices)
    assert report.counted_bpw == pytest.approx(bits / weights)
    summary = load_model(out, TorchBackend()).summary
    assert summary.bits_per_weight == pytest.approx(report.bpw)
    assert head.bits_per_weight == pytest.approx(report.head_bpw)
    assert json.loads((out / "config.json").read_text())["quantization_config"]["head_bits"] == report.head_bits


def test_a_budget_that_includes_the_head_leaves_its_widths_open() -> None:
    with pytest.raises(ConfigError, match="head_bits cannot be set together with bpw_total"):
        QuantizeOptions(bpw_total=True, head_bits=8)
    with pytest.raises(ConfigError, match="bpw_total is not possible with the recipe exllamav2"):
        QuantizeOptions(bpw_total=True, recipe="exllamav2")


def test_the_directory_holds_what_the_format_asks_for(
    workplace: Workplace, made: tuple[Path, QuantizeReport, SilentProgress]
) -> None:
    out, _, _ = made
    source, config = (json.loads((each / "config.json").read_text()) for each in (workplace.model, out))
    quantization = config.pop("quantization_config")
    assert config == source
    assert quantization.pop("version")
    assert quantization == {
        "quant_method": "exl2",
        "bits": 4.5,
        "head_bits": 6,
        "calibration": {"rows": 8, "length": 64, "dataset": "calibration.txt"},
    }
    assert (out / "tokenizer.json").read_bytes() == (workplace.model / "tokenizer.json").read_bytes()
    assert not (out / "model.safetensors").exists()
    tensors = load_file(out / "output.safetensors")
    floats = [name for name, tensor in tensors.items() if name.endswith(("norm.weight", "embed_tokens.weight"))]
    assert len(floats) == 6
    assert all(tensors[name].dtype == torch.float16 for name in floats)
    assert list(out.parent.iterdir()) == [out]


def test_progress_is_told_to_the_end(made: tuple[Path, QuantizeReport, SilentProgress]) -> None:
    progress = made[2]
    assert [total for _, total in progress.stages] == progress.done


def test_more_bits_come_closer_to_the_source(workplace: Workplace, tmp_path: Path) -> None:
    reports = []
    for bpw in (3.0, 4.0, 6.5):
        out = tmp_path / str(bpw)
        quantize_model(workplace.options(out, bpw, head_bits=8), progress=SilentProgress())
        reports.append(workplace.measure(out))
    divergences = [report.kl_mean for report in reports]
    assert all(each is not None for each in divergences)
    assert divergences == sorted(divergences, reverse=True)  # type: ignore[type-var]
    best = reports[-1]
    assert best.reference_perplexity is not None
    assert best.perplexity == pytest.approx(best.reference_perplexity, rel=0.05)
    assert best.top1_agreement is not None
    assert best.top1_agreement > 0.85


def test_equal_jobs_write_equal_bytes(
    workplace: Workplace, made: tuple[Path, QuantizeReport, SilentProgress], tmp_path: Path
) -> None:
    again = tmp_path / "again"
    quantize_model(workplace.options(again, 4.5), progress=SilentProgress())
    assert (again / "output.safetensors").read_bytes() == (made[0] / "output.safetensors").read_bytes()


def test_biases_and_an_untied_head(workplace: Workplace, tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "qwen", tied=False, biases=True, dtype=torch.bfloat16)
    place = replace(workplace, model=model)
    quantize_model(place.options(tmp_path / "out", 6.5, head_bits=8, shard_bytes=50_000), progress=SilentProgress())
    assert len(list((tmp_path / "out").glob("output-*.safetensors"))) > 1
    report = place.measure(tmp_path / "out")
    assert report.kl_mean is not None
    assert report.kl_mean < 0.05


class Parrot:
    """Writes the prompt's last token and its followers, a different number of them for every seed and prompt."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[list[int]], int, int]] = []

    def generate(self, prompts_token_ids: list[list[int]], max_tokens: int, seed: int) -> list[list[int]]:
        self.calls.append((prompts_token_ids, max_tokens, seed))
        return [
            [(seed + 7 * index + step * step) % 250 for step in range(1 + (seed + index) % max_tokens)]
            for index in range(len(prompts_token_ids))
        ]


def test_calibration_by_the_model_itself(workplace: Workplace, tmp_path: Path) -> None:
    options = workplace.options(tmp_path / "out", calibration=(), rows=4)
    (report,) = quantize_model(options, progress=SilentProgress(), generator=nullcontext(Parrot()))
    assert report.calibration == {"rows": 4, "length": 64, "dataset": "(self-generated)"}
    with pytest.raises(QuantizationError, match="neither a calibration text nor a generator"):
        quantize_model(replace(options, out=tmp_path / "other"), progress=SilentProgress())


def test_the_writing_model_is_gone_before_the_source_is_loaded(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def writing() -> Iterator[Parrot]:
        events.append("engine starts")
        yield Parrot()
        events.append("engine ends")

    def watch(checkpoint: Checkpoint, config: ModelConfig, backend: Backend, length: int, scratch: Path) -> SourceModel:
        events.append(f"source is loaded for {length} tokens")
        return open_source(checkpoint, config, backend, length, scratch)

    monkeypatch.setattr("quantize.preparation.open_source", watch)
    options = workplace.options(tmp_path / "out", calibration=(), rows=2, length=100_000)
    (report,) = quantize_model(options, progress=SilentProgress(), generator=writing())
    assert events == ["engine starts", "engine ends", "source is loaded for 128 tokens"]
    assert report.calibration["length"] == 128


def test_keys_of_the_configuration_can_be_ignored(workplace: Workplace, tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | {"logits_scaling": 0.5}
    (model / "config.json").write_text(json.dumps(config))
    _refused(workplace, tmp_path / "out", UnsupportedModelError, "logits_scaling", source=model)
    options = workplace.options(tmp_path / "out", source=model, ignore_config_keys=("logits_scaling",))
    quantize_model(options, progress=SilentProgress())
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["logits_scaling"] == 0.5  # whoever loads the result decides anew


def _refused(workplace: Workplace, out: Path, error: type[QuireError], message: str, **changes: object) -> None:
    before = set(out.parent.rglob("*"))
    with pytest.raises(error, match=message):
        quantize_model(workplace.options(out, **changes), progress=SilentProgress())  # type: ignore[arg-type]
    assert set(out.parent.rglob("*")) == before


def test_an_output_that_exists_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    _refused(workplace, tmp_path / "out", QuantizationError, "already exists")


def test_an_impossible_budget_leaves_nothing_behind(workplace: Workplace, tmp_path: Path) -> None:
    _refused(workplace, tmp_path / "out", QuantizationError, "takes at least 2", bpw=2.0)
    _refused(workplace, tmp_path / "out", QuantizationError, r"at least 2.*at most 8", bpw=9.0)


def test_overrides_that_cannot_be_met_are_found_before_anything_is_measured(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(checkpoint: Checkpoint, name: str) -> torch.Tensor:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(Checkpoint, "tensor", read)
    for override, message in (
        ("layers.7.*=4", r"layers\.7\.\* fits no matrix"),
        ("layers.0.*=1.5", r"override layers\.0\.\*: 1\.500 bits per weight cannot be reached; possible are 2"),
        ("layers.0.*=8", r"4 bits per weight cannot be reached with these overrides.*Possible are 5\.\d+ to 8"),
        ("*.down_proj=16", r"override \*\.down_proj: 16\.000 bits .* possible are 2\.\d+ to 8"),
        ("lm_head=4", "lm_head fits no matrix"),
    ):
        _refused(workplace, tmp_path / "out", QuantizationError, message, override=(override,), bpw=4.0)
    for override, message in (
        ("*.down_proj=4", "fits only some of .*gate_proj.* chooses together"),
        ("*.mlp.*=8", r"Possible are 6\.\d+ to 8"),
    ):
        yardstick = {"override": (override,), "bpw": 5.0, "recipe": "exllamav2"}
        _refused(workplace, tmp_path / "out", QuantizationError, message, **yardstick)
    _refused(workplace, tmp_path / "out", QuantizationError, r"at least 3\.7.*at most 8", bpw=2.6, recipe="exllamav2")


def test_a_short_text_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    _refused(workplace, tmp_path / "out", QuantizationError, "rows of 64 need 640000", rows=10_000)
    _refused(
        workplace, tmp_path / "out", QuantizationError, "does not exist", calibration=(str(tmp_path / "missing.txt"),)
    )


def test_a_job_that_does_not_fit_in_memory_is_refused(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantize.device.free_memory", lambda: 1 << 20)
    _refused(workplace, tmp_path / "out", QuantizationError, "with more memory, or shorter rows")


def test_a_gpu_is_looked_at_before_anything_is_read(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    calibration = {"calibration": (str(tmp_path / "missing.txt"),), "device": "cuda"}
    _refused(workplace, tmp_path / "out", ConfigError, "torch finds no CUDA device", **calibration)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 20, 1 << 30))
    _refused(workplace, tmp_path / "out", QuantizationError, "of GPU memory.*--device cpu", **calibration)


@pytest.mark.parametrize("content", [None, b"caf\xe9", b"short"])
def test_a_text_that_will_not_do_is_found_before_any_weight_is_read(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    def read(checkpoint: Checkpoint, name: str) -> torch.Tensor:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(Checkpoint, "tensor", read)
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    message = {None: "does not exist", b"short": "tokens, but 8 rows"}.get(content, "not UTF-8")
    _refused(workplace, tmp_path / "out", QuantizationError, message, calibration=(str(text),))


def test_a_quantized_source_is_refused(
    workplace: Workplace, made: tuple[Path, QuantizeReport, SilentProgress], tmp_path: Path
) -> None:
    _refused(workplace, tmp_path / "out", QuantizationError, "EXL2 already", source=made[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_values_that_half_precision_cannot_hold_are_named(workplace: Workplace, tmp_path: Path, value: float) -> None:
    model = write_dense_model(tmp_path / "model", dtype=torch.bfloat16)
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, model / "model.safetensors")
    _refused(workplace, tmp_path / "out", QuantizationError, r"layers\.1\.mlp\.up_proj", source=model)


def test_widths_that_cannot_be_stored_are_named(workplace: Workplace, tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model", hidden=48)
    _refused(workplace, tmp_path / "out", QuantizationError, r"self_attn\.q_proj has 48 inputs", source=model)


def test_a_missing_source_is_named(workplace: Workplace, tmp_path: Path) -> None:
    _refused(workplace, tmp_path / "out", CheckpointError, "nowhere", source=tmp_path / "nowhere")


def test_a_tokenizer_of_another_model_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:64].contiguous()
    save_file(tensors, model / "model.safetensors")
    config = json.loads((model / "config.json").read_text()) | {"vocab_size": 64}
    (model / "config.json").write_text(json.dumps(config))
    _refused(workplace, tmp_path / "out", QuantizationError, "do not belong together", source=model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("bpw", value) for value in (0.5, float("nan"), 1e308, -4.0)),
        *(("rows", value) for value in (0, -5, 10**400)),
        *(("length", value) for value in (1, 10**400)),
        *(("head_bits", 7), ("shard_bytes", 0), ("seed", -1), ("threads", -1)),
    ],
)
def test_options_out_of_range_are_named(workplace: Workplace, tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        workplace.options(tmp_path, **{name: value})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories260k-pad192", "tinystories-656k"])
def test_trained_models(shared: Path, tmp_path: Path, name: str) -> None:
    import gzip

    with gzip.open(shared / "data" / "text" / "tinystories-train-head.txt.gz") as file:
        text = file.read()
    (tmp_path / "calibration.txt").write_bytes(text[:400_000])
    (tmp_path / "other.txt").write_bytes(text[472_213:])
    place = Workplace(shared / "models" / name, tmp_path / "calibration.txt", tmp_path / "other.txt")
    found = []
    for bpw in (4.0, 6.0):
        options = QuantizeOptions(
            place.model, tmp_path / str(bpw), (bpw,), rows=32, calibration=(str(place.calibration),), threads=1
        )
        quantize_model(options, progress=SilentProgress())
        found.append(
            evaluate(options.out, place.other, place.model, backend=TorchBackend(), progress=SilentProgress(), rows=16)
        )
    coarse, fine = found
    assert coarse.kl_mean is not None
    assert fine.kl_mean is not None
    assert fine.kl_mean < 0.02
    assert fine.kl_mean < coarse.kl_mean < 0.3
    assert fine.reference_perplexity is not None
    assert fine.perplexity == pytest.approx(fine.reference_perplexity, rel=0.02)


def test_a_shard_that_was_cut_off_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    shard = model / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    _refused(workplace, tmp_path / "out", CheckpointError, r"model\.safetensors", source=model)


def test_a_shard_that_is_missing_is_named(workplace: Workplace, tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    files = {name: first if ".layers.0." in name else second for name in weights}
    save_file({name: tensor for name, tensor in weights.items() if files[name] == first}, model / first)
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    _refused(workplace, tmp_path / "out", CheckpointError, f"{second} is missing; fetch it again", source=model)


def test_an_empty_text_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    calibration = (str(tmp_path / "empty.jsonl"),)
    _refused(workplace, tmp_path / "out", QuantizationError, "has 0 tokens, but 8 rows", calibration=calibration)
