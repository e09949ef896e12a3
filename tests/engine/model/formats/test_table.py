"""The choice of a format, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import CheckpointError, UnsupportedModelError
from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import LinearShape
from engine.model.formats.exl2 import exl2_state
from engine.model.formats.table import build_linear, has_linear
from engine.ops.exl2 import decode
from tests.engine.model.exl2_directory import write_random_exl2_llama
from tests.engine.model.formats.recording_backend import RecordingBackend
from tests.engine.ops.exl2_matrices import random_exl2, same_bits

I32 = torch.zeros(4, 4, dtype=torch.int32)

FOREIGN = {
    "GPTQ": {"qweight": I32, "qzeros": I32, "scales": torch.ones(4, 4).half(), "g_idx": I32},
    "GPTQ ": {"qweight": I32, "qzeros": I32, "scales": torch.ones(4, 4).half()},
    "AWQ": {"qweight": I32, "qzeros": I32, "scales": torch.ones(4, 32).half()},
    "GPTQ or AWQ": {"qweight": I32},
    "bitsandbytes 4-bit": {"weight": torch.zeros(8, 1, dtype=torch.uint8), "weight.absmax": torch.ones(1)},
    "bitsandbytes 4-bit ": {"weight": torch.zeros(8, 1).bfloat16(), "weight.absmax": torch.ones(1)},
    "bitsandbytes 8-bit": {"weight": torch.zeros(4, 4, dtype=torch.int8), "SCB": torch.ones(4)},
    "FP8": {"weight": torch.zeros(4, 4).to(torch.float8_e4m3fn), "weight_scale": torch.ones(1)},
    "EXL3": {"trellis": torch.zeros(1, 1, 4, dtype=torch.int16)},
    "compressed-tensors": {"weight_packed": I32},
}


def saved(folder: Path, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return Checkpoint.open(folder)


def test_formats_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    matrix = random_exl2([(4, 64)])
    checkpoint = saved(tmp_path, exl2_state("a", matrix) | {"b.weight": torch.ones(32, 64).bfloat16()})
    backend = RecordingBackend()
    formats = [build_linear(checkpoint, LinearShape(p, 64, 32, bias=False), backend).format for p in ("a", "b")]
    assert formats == ["exl2", "bfloat16"]
    assert [kernel.exl2 is not None for kernel in backend.kernels] == [True, False]


def test_exl2_wins_over_a_plain_matrix_of_the_same_layer(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, exl2_state("a", random_exl2([(4, 64)])) | {"a.weight": torch.ones(32, 64)})
    assert build_linear(checkpoint, LinearShape("a", 64, 32, bias=False), RecordingBackend()).format == "exl2"


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, {"b.weight": torch.ones(1)})
    assert not has_linear(checkpoint, "a")
    with pytest.raises(CheckpointError, match=f"^a in {tmp_path}: the layer is missing"):
        build_linear(checkpoint, LinearShape("a", 1, 1, bias=False), RecordingBackend())


def test_a_layer_with_one_exl2_tensor_left_names_a_missing_one(tmp_path: Path) -> None:
    state = exl2_state("a", random_exl2([(4, 64)]))
    del state["a.q_weight"]
    with pytest.raises(CheckpointError, match=r"'a\.q_weight' is missing"):
        build_linear(saved(tmp_path, state), LinearShape("a", 64, 32, bias=False), RecordingBackend())


def test_integers_of_no_known_format(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, {"a.weight": torch.ones(2, 2, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=r"a\.weight .* int8"):
        build_linear(checkpoint, LinearShape("a", 2, 2, bias=False), RecordingBackend())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_only_recognised_is_named(tmp_path: Path, name: str) -> None:
    checkpoint = saved(tmp_path, {f"a.{suffix}": tensor for suffix, tensor in FOREIGN[name].items()})
    assert has_linear(checkpoint, "a")
    with pytest.raises(UnsupportedModelError, match=f"^a in .* is stored as {name.strip()}, which"):
        build_linear(checkpoint, LinearShape("a", 4, 4, bias=False), RecordingBackend())


@pytest.mark.parametrize("stem", ["gptq_b4_g128_sym", "gptqv2_b4_g64_actorder", "awq_g128", "awq_g64_bias"])
def test_golden_files_of_other_formats_are_recognised(tmp_path: Path, golden: Path, stem: str) -> None:
    (tmp_path / "model.safetensors").symlink_to(golden / f"{stem}.safetensors")
    with pytest.raises(UnsupportedModelError, match=stem[:3].upper()):
        build_linear(Checkpoint.open(tmp_path), LinearShape("linear", 256, 64, bias=False), RecordingBackend())


def test_a_directory_as_exllamav2_leaves_it(tmp_path: Path) -> None:
    decoded = write_random_exl2_llama(tmp_path, hidden=64, layers=1, vocab=150, tied=True, widths=(6, 4))
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors.index.json",
        "output.safetensors",
    }
    checkpoint = Checkpoint.open(tmp_path)
    backend = RecordingBackend()
    matrices = {name.removesuffix(".weight"): each for name, each in decoded.items() if each.dim() == 2}
    del matrices["model.embed_tokens"]
    read = {"model.embed_tokens.weight", *(name for name, each in decoded.items() if each.dim() == 1)}
    for prefix, weight in matrices.items():
        outputs, inputs = weight.shape
        built = build_linear(checkpoint, LinearShape(prefix, inputs, outputs, bias=False), backend)
        assert (built.format, built.kernel.out_features) == ("exl2", outputs)
        assert same_bits(decode(backend.kernels[-1].exl2)[:, :outputs].T.contiguous(), weight)
        read.update(f"{prefix}.{suffix}" for suffix in ("q_weight", "q_invperm", "q_scale", "q_scale_max", "q_groups"))
    assert "lm_head" in matrices  # its own, although config.json says tied
    assert backend.kernels[-1].exl2.stored_outputs == 160  # 150 padded
    assert read == set(checkpoint.names)
