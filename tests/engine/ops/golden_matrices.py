"""The golden EXL2 matrices (tests/golden). Read on machines with a GPU, too, where little but torch is installed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from engine.ops.exl2 import Exl2Tensors

EXL2_GOLDEN = (
    "b2_g64",
    "b3_g32",
    "b4_g128_bias",
    "b4_g64_packpad",
    "b4_prescale",
    "b4_tiny_scale",
    "b5_g128_oddlast",
    "b6_g32",
    "b8_g128",
    "head4_rtn",
    "head6_padded_vocab",
    "mix43_g128",
    "mix632_oddlast",
    "mix65_g32",
    "mix854_bias",
)


def golden_exl2(path: Path) -> tuple[Exl2Tensors, dict[str, torch.Tensor], dict[str, str]]:
    """The matrix in a golden file, its reference tensors without their `ref.`, and the file's metadata."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    matrix = Exl2Tensors(
        q_weight=tensors["linear.q_weight"],
        q_invperm=tensors["linear.q_invperm"],
        q_scale=tensors["linear.q_scale"],
        q_scale_max=tensors["linear.q_scale_max"],
        q_groups=tensors["linear.q_groups"],
        bias=tensors.get("linear.bias"),
        out_features=int(metadata["out_features"]),
        prescale=float(metadata["prescale"]),
    )
    references = {name.removeprefix("ref."): each for name, each in tensors.items() if name.startswith("ref.")}
    return matrix, references, metadata
