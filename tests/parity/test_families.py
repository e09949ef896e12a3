"""Every family computes what transformers computes, with and without the paged cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.model.forward_batch import ForwardBatch
from engine.model.loader import load_model
from engine.ops.backend import Backend
from engine.ops.torch_backend import TorchBackend
from tests.parity.families import FAMILIES, LENGTHS, VOCAB, build, reference_logits, save, token_sequences
from tests.parity.running import ScoreRecorder, full_logits, paged_logits, positions_of

TOLERANCE = 5e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_family_equals_transformers(name: str, backend: Backend, tmp_path: Path) -> None:
    reference = build(FAMILIES[name])
    sequences = token_sequences()
    expected = reference_logits(reference, sequences)
    model = load_model(save(reference, tmp_path), backend).model

    assert float(expected.std()) >= 1.0
    torch.testing.assert_close(full_logits(model, sequences), expected, atol=TOLERANCE, rtol=0)
    paged = paged_logits(model, sequences, chunks=[13, 1, 20])
    torch.testing.assert_close(paged, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_scores_vary_enough_to_show_mistakes(name: str, tmp_path: Path) -> None:
    model = load_model(save(build(FAMILIES[name]), tmp_path), TorchBackend()).model
    recorder = ScoreRecorder(list(LENGTHS))
    rows = torch.tensor([0], dtype=torch.int32)
    model.forward(ForwardBatch(torch.cat(token_sequences()), positions_of(list(LENGTHS)), rows), recorder)
    assert len(recorder.deviations) == 3
    assert min(recorder.deviations) >= 3.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["llama-linear-biases-tied", "qwen3-everything"])
def test_half_precision_checkpoints(name: str, dtype: torch.dtype, backend: Backend, tmp_path: Path) -> None:
    directory = save(build(FAMILIES[name]), tmp_path, dtype)
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    loaded = load_model(directory, backend)

    assert loaded.summary.weight_format == str(dtype).removeprefix("torch.")
    assert loaded.summary.bits_per_weight == 16.0
    expected = reference_logits(reference, token_sequences())
    torch.testing.assert_close(full_logits(loaded.model, token_sequences()), expected, atol=TOLERANCE, rtol=0)


def test_logits_of_chosen_rows_only(backend: Backend, tmp_path: Path) -> None:
    model = load_model(save(build(FAMILIES["qwen2-window"]), tmp_path), backend).model
    sequences = token_sequences()
    everything = full_logits(model, sequences)
    rows = torch.tensor([60, 65, 105], dtype=torch.int32)
    recorder = ScoreRecorder(list(LENGTHS))
    batch = ForwardBatch(torch.cat(sequences), positions_of(list(LENGTHS)), rows)
    logits = model.forward(batch, recorder)
    assert logits.shape == (3, VOCAB)
    torch.testing.assert_close(logits, everything[rows], atol=1e-5, rtol=0)

    none = ForwardBatch(batch.token_ids, batch.positions, torch.empty(0, dtype=torch.int32))
    assert model.forward(none, recorder).shape == (0, VOCAB)


@pytest.mark.parametrize("name", ["stories260k", "stories260k-pad192", "tinystories-656k", "quire-demo"])
def test_trained_models_equal_transformers(name: str, backend: Backend, shared: Path) -> None:
    directory = shared / "models" / name
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    sequences = token_sequences((150, 20), vocab=512)
    expected = reference_logits(reference, sequences)
    model = load_model(directory, backend).model
    torch.testing.assert_close(full_logits(model, sequences), expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(paged_logits(model, sequences, [140]), expected, atol=TOLERANCE, rtol=0)
