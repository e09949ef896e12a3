"""Dense checkpoints made of quantized ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from engine.errors import QuantizationError, UnsupportedModelError
from quantize.convert import convert_to_dense
from tests.engine.model.exl2_directory import write_random_exl2_llama
from tests.quantize.models import SilentProgress, write_dense_model


@pytest.mark.parametrize("tied", [True, False])
def test_a_quantized_model_converts_exactly(tmp_path: Path, tied: bool) -> None:
    expected = write_random_exl2_llama(tmp_path / "exl2", tied=tied)
    progress = SilentProgress()
    sizes = convert_to_dense(tmp_path / "exl2", tmp_path / "dense", progress=progress)
    assert list(sizes) == ["model.safetensors"]
    assert [total for _, total in progress.stages] == progress.done
    written = load_file(tmp_path / "dense" / "model.safetensors")
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert "quantization_config" not in config
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
    assert model.dtype == torch.float16
    assert torch.equal(model.lm_head.weight, expected["lm_head.weight"])


def test_a_tied_dense_model_stays_tied(tmp_path: Path) -> None:
    source = write_dense_model(tmp_path / "source", dtype=torch.float32, biases=True)
    convert_to_dense(source, tmp_path / "dense", progress=SilentProgress(), shard_bytes=50_000)
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert (tmp_path / "dense" / "model.safetensors.index.json").exists()
    original = transformers.AutoModelForCausalLM.from_pretrained(source).half()
    converted = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, converted.state_dict()[name]), name


def test_keys_of_the_configuration_can_be_ignored(tmp_path: Path) -> None:
    source = write_dense_model(tmp_path / "source")
    config = json.loads((source / "config.json").read_text()) | {"logits_scaling": 0.5}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="logits_scaling"):
        convert_to_dense(source, tmp_path / "dense", progress=SilentProgress())
    keys = ("logits_scaling",)
    assert convert_to_dense(source, tmp_path / "dense", progress=SilentProgress(), ignore_config_keys=keys)


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    write_random_exl2_llama(tmp_path / "exl2")
    with pytest.raises(QuantizationError, match="already exists"):
        convert_to_dense(tmp_path / "exl2", tmp_path / "exl2", progress=SilentProgress())
