"""Loading: dense and EXL2 and both, tied and not, what is counted, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from engine.errors import CheckpointError, KernelArgumentError, UnsupportedModelError
from engine.model.loader import LoadedModel, load_model
from engine.ops.torch_backend import TorchBackend
from tests.engine.model.exl2_directory import write_random_exl2_llama
from tests.parity.families import FAMILIES, build, reference_logits, save, token_sequences
from tests.parity.running import full_logits, paged_logits

Tensors = dict[str, torch.Tensor]


def dense_copy(source: Path, decoded: Tensors, target: Path) -> Path:
    """The decoded weights of an EXL2 directory as a dense one, its head untied."""
    target.mkdir()
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    save_file({name: tensor.contiguous() for name, tensor in decoded.items()}, target / "model.safetensors")
    return target


def edit(directory: Path, change: Callable[[Tensors], None]) -> Path:
    """Change the tensors of a directory with one file of weights."""
    (path,) = directory.glob("*.safetensors")
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    return directory


def edit_config(directory: Path, **changes: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return directory


def load(directory: Path) -> LoadedModel:
    return load_model(directory, TorchBackend())


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A dense Llama with untied head and no biases."""
    return save(build(FAMILIES["llama2"]), tmp_path / "dense")


@pytest.mark.parametrize("tied", [True, False])
def test_exl2_equals_transformers_on_the_decoded_weights(tied: bool, tmp_path: Path) -> None:
    source = tmp_path / "exl2"
    decoded = write_random_exl2_llama(source, hidden=64, layers=2, vocab=150, tied=tied)
    reference = LlamaForCausalLM.from_pretrained(
        dense_copy(source, decoded, tmp_path / "dense"), dtype=torch.float32
    ).eval()
    loaded = load(source)
    sequences = token_sequences((50, 7), vocab=150)
    expected = reference_logits(reference, sequences)
    assert float(expected.std()) > 0.5
    torch.testing.assert_close(full_logits(loaded.model, sequences), expected, atol=5e-4, rtol=0)
    torch.testing.assert_close(paged_logits(loaded.model, sequences, [9]), expected, atol=5e-4, rtol=0)

    assert loaded.summary.weight_format == "exl2"
    assert 4.0 < loaded.summary.bits_per_weight < 6.0
    own = [tensor.numel() for name, tensor in decoded.items() if not (tied and name == "lm_head.weight")]
    assert loaded.summary.parameters == sum(own)


def test_formats_may_be_mixed(tmp_path: Path) -> None:
    source = tmp_path / "mixed"
    decoded = write_random_exl2_llama(source, hidden=64, layers=2, vocab=150)
    sequences = token_sequences((20,), vocab=150)
    expected = full_logits(load(source).model, sequences)

    def replace_with_dense(tensors: Tensors) -> None:
        for prefix in ("model.layers.0.self_attn.v_proj", "model.layers.1.mlp.up_proj", "lm_head"):
            for name in [name for name in tensors if name.startswith(f"{prefix}.")]:
                del tensors[name]
            tensors[f"{prefix}.weight"] = decoded[f"{prefix}.weight"].contiguous()

    loaded = load(edit(source, replace_with_dense))
    assert loaded.summary.weight_format == "exl2 + float16"
    assert loaded.summary.head_bits_per_weight == 16.0
    torch.testing.assert_close(full_logits(loaded.model, sequences), expected, atol=1e-5, rtol=0)


def test_a_head_of_its_own_wins_over_tied_embeddings(tmp_path: Path) -> None:
    directory = save(build(FAMILIES["llama-linear-biases-tied"]), tmp_path)
    sequences = token_sequences((10,))
    tied = load(directory)
    expected = full_logits(tied.model, sequences)
    assert tied.summary.parameters == build(FAMILIES["llama-linear-biases-tied"]).num_parameters()

    def add_head(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = 2 * tensors["model.embed_tokens.weight"]

    untied = load(edit(directory, add_head))
    torch.testing.assert_close(full_logits(untied.model, sequences), 2 * expected, atol=1e-4, rtol=0)
    assert untied.summary.parameters == tied.summary.parameters  # as config.json describes the model


def test_a_tied_model_of_which_only_the_head_was_saved(tmp_path: Path) -> None:
    directory = save(build(FAMILIES["qwen2-tied"]), tmp_path)
    sequences = token_sequences((10,))
    before = load(directory)

    def rename(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    after = load(edit(directory, rename))
    assert torch.equal(full_logits(after.model, sequences), full_logits(before.model, sequences))
    assert after.summary == before.summary


def test_summary_of_a_dense_model(dense: Path) -> None:
    summary = load(dense).summary
    parameters = build(FAMILIES["llama2"]).num_parameters()
    assert summary.weight_format == "float32"
    assert (summary.bits_per_weight, summary.head_bits_per_weight) == (32.0, 32.0)
    assert (summary.parameters, summary.weight_bytes) == (parameters, 4 * parameters)


def test_the_model_does_not_depend_on_its_file_any_more(dense: Path) -> None:
    sequences = token_sequences((10,))
    model = load(dense).model
    expected = full_logits(model, sequences)
    path = dense / "model.safetensors"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert torch.equal(full_logits(model, sequences), expected)


def test_derivable_buffers_of_old_checkpoints_are_dropped(dense: Path) -> None:
    def add_buffer(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    load(edit(dense, add_buffer))


@pytest.mark.parametrize(
    ("name", "tensor", "fragment"),
    [
        ("model.layers.1.mlp.down_proj.weight", None, "lacks 1 tensor: model.layers.1.mlp.down_proj."),
        ("model.norm.weight", None, "lacks 1 tensor: model.norm.weight"),
        ("model.embed_tokens.weight", None, "lacks 1 tensor: model.embed_tokens.weight"),
        ("lm_head.weight", None, "lacks 1 tensor: lm_head."),
        ("model.layers.3.mlp.down_proj.weight", torch.ones(64, 96), "has 1 tensor: model.layers.3.mlp.down_proj."),
        ("model.layers.0.self_attn.q_norm.weight", torch.ones(16), "has 1 tensor: model.layers.0.self_attn.q_norm."),
        ("model.layers.0.self_attn.q_proj.bias", torch.ones(64), "q_proj.bias"),
        ("model.layers.0.mlp.up_proj.weight_scale", torch.ones(1), "has 1 tensor: model.layers.0.mlp.up_proj.weight_"),
        ("model.norm.weight", torch.ones(65), "its shape is [65], config.json asks for [64]"),
        ("model.norm.weight", torch.ones(64, dtype=torch.int32), "its element type is int32"),
        ("model.layers.1.mlp.up_proj.weight", torch.ones(128, 64, dtype=torch.int16), "its element type is int16"),
        ("model.norm.weight", torch.full((64,), float("nan")), "not a finite number"),
        ("model.embed_tokens.weight", torch.ones(96, 64), "its shape is [96, 64], config.json asks for [97, 64]"),
        ("model.layers.0.mlp.up_proj.weight", torch.ones(64, 96), "model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_wrong_tensors_are_named(name: str, tensor: torch.Tensor | None, fragment: str, dense: Path) -> None:
    def spoil(tensors: Tensors) -> None:
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor

    edit(dense, spoil)
    with pytest.raises(CheckpointError) as caught:
        load(dense)
    assert fragment in str(caught.value)


def test_a_missing_bias_is_named(dense: Path) -> None:
    with pytest.raises(CheckpointError, match=r"q_proj\.bias.*must have a bias"):
        load(edit_config(dense, attention_bias=True))


def test_many_missing_tensors_are_listed_in_short(dense: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks 18 tensors: .* and 10 more"):
        load(edit_config(dense, num_hidden_layers=5))


def test_formats_that_cannot_be_read_are_named(dense: Path) -> None:
    def make_gptq(tensors: Tensors) -> None:
        del tensors["model.layers.0.mlp.up_proj.weight"]
        tensors["model.layers.0.mlp.up_proj.qweight"] = torch.ones(8, 96, dtype=torch.int32)

    with pytest.raises(UnsupportedModelError, match="GPTQ"):
        load(edit(dense, make_gptq))


def test_rotary_tables_follow_the_wanted_context(dense: Path) -> None:
    model = load_model(dense, TorchBackend(), max_positions=7).model
    assert full_logits(model, token_sequences((7,))).shape == (7, 97)
    with pytest.raises(KernelArgumentError, match="positions holds 7"):
        full_logits(model, token_sequences((8,)))
