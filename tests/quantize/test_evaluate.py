"""Evaluation against figures computed the long way, and its refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.errors import EvaluationError, UnsupportedModelError
from engine.model.rope import RopeParameters, rotary_tables
from engine.ops.torch_backend import TorchBackend
from engine.text.tokenizer import load_tokenizer
from quantize.evaluate import EvalReport, evaluate
from tests.quantize.models import SilentProgress, write_dense_model, write_text


def _evaluate(model: Path, text: Path, reference: Path | None, rows: int | None = 3) -> EvalReport:
    return evaluate(model, text, reference, backend=TorchBackend(), progress=SilentProgress(), length=32, rows=rows)


def _log_probabilities(model: Path, text: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 log-probabilities [3, 31, V] by transformers, and the tokens they predict [3, 31]."""
    decoder = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokens = load_tokenizer(model).encode(text.read_text("utf-8"), False)
    windows = torch.tensor(tokens[: 3 * 32]).view(3, 32)
    with torch.no_grad():
        logits: torch.Tensor = decoder(windows).logits
    return logits[:, :-1].double().log_softmax(-1), windows[:, 1:]


def test_figures_equal_those_of_transformers(tmp_path: Path) -> None:
    model, other = write_dense_model(tmp_path / "a"), write_dense_model(tmp_path / "b", seed=1)
    text = write_text(tmp_path / "text.txt", words=300)
    report = _evaluate(model, text, other)
    ours, targets = _log_probabilities(model, text)
    theirs, _ = _log_probabilities(other, text)
    divergence = (theirs.exp() * (theirs - ours)).sum(-1)
    assert report.perplexity == pytest.approx(math.exp(-float(ours.gather(-1, targets[..., None]).mean())), rel=1e-4)
    assert report.reference_perplexity == pytest.approx(
        math.exp(-float(theirs.gather(-1, targets[..., None]).mean())), rel=1e-4
    )
    assert report.kl_mean == pytest.approx(float(divergence.mean()), rel=1e-4)
    assert report.kl_p99 == pytest.approx(float(divergence.flatten().sort().values[math.ceil(0.99 * 93) - 1]), rel=1e-4)
    assert report.kl_standard_error == pytest.approx(float(divergence.mean(1).std()) / math.sqrt(3), rel=1e-3)
    assert report.top1_agreement == pytest.approx(float((ours.argmax(-1) == theirs.argmax(-1)).double().mean()))
    assert (report.tokens, report.windows, report.length) == (93, 3, 32)
    assert json.loads(report.to_json())["weight_format"] == "float16"


def test_a_model_does_not_differ_from_itself(tmp_path: Path) -> None:
    model, text = write_dense_model(tmp_path / "a"), write_text(tmp_path / "text.txt", words=300)
    report = _evaluate(model, text, model, rows=None)
    assert report.kl_mean == 0.0
    assert report.top1_agreement == 1.0
    assert report.windows > 3
    alone = _evaluate(model, text, None, rows=None)
    assert alone.perplexity == report.perplexity
    assert (alone.kl_mean, alone.kl_p99, alone.reference_perplexity, alone.top1_agreement) == (None,) * 4


def _change_config(model: Path, **changes: object) -> Path:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    return model


def test_windows_fit_the_context_of_both_models(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt", words=300)
    model, short = write_dense_model(tmp_path / "a"), write_dense_model(tmp_path / "b", seed=1)
    _change_config(short, max_position_embeddings=20)
    for pair in ((model, short), (short, model)):
        report = _evaluate(pair[0], text, pair[1])
        assert (report.length, report.length_requested) == (20, 32)
        assert report.reference_perplexity is not None
        assert math.isfinite(report.reference_perplexity)
        assert math.isfinite(report.perplexity)


def test_a_long_context_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    positions: list[int] = []

    def watch(rope: RopeParameters, head_dim: int, count: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        positions.append(count)
        return rotary_tables(rope, head_dim, min(count, 1000), device)

    monkeypatch.setattr("engine.model.loader.rotary_tables", watch)
    model = _change_config(write_dense_model(tmp_path / "a"), max_position_embeddings=10_000_000)
    _evaluate(model, write_text(tmp_path / "text.txt", words=300), model)
    assert positions == [32, 32]


def test_keys_of_the_configuration_can_be_ignored(tmp_path: Path) -> None:
    model = _change_config(write_dense_model(tmp_path / "a"), logits_scaling=0.5)
    text = write_text(tmp_path / "text.txt", words=300)
    arguments = {"backend": TorchBackend(), "progress": SilentProgress(), "length": 32, "rows": 1}
    with pytest.raises(UnsupportedModelError, match="logits_scaling"):
        evaluate(model, text, model, **arguments)  # type: ignore[arg-type]
    report = evaluate(model, text, model, **arguments, ignore_config_keys=("logits_scaling",))  # type: ignore[arg-type]
    assert report.kl_mean == 0.0


def test_what_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    model, text = write_dense_model(tmp_path / "a"), write_text(tmp_path / "text.txt", words=30)
    with pytest.raises(EvaluationError, match="not for 50"):
        _evaluate(model, text, None, rows=50)
    (tmp_path / "empty").touch()
    with pytest.raises(EvaluationError, match="has 0 tokens"):
        _evaluate(model, tmp_path / "empty", None, rows=None)
    with pytest.raises(EvaluationError, match="does not exist"):
        _evaluate(model, tmp_path / "missing", None)
    small = write_dense_model(tmp_path / "b")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] - 1}))
    tensors = load_file(small / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-1].contiguous()
    save_file(tensors, small / "model.safetensors")
    with pytest.raises(EvaluationError, match="same vocabulary"):
        _evaluate(model, text, small)
