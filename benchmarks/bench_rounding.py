"""How sensitive a model is to plain rounding: KL divergence after llama.cpp's formats that need no calibration.

    python -m benchmarks.bench_rounding MODEL --text TEXT [--windows 64] [--length 512]

All matrices of the decoder layers are rounded to Q8_0, Q5_0 or Q4_0, embedding and head to Q6_K (with Q8_0, and where
rows are no multiple of 256, to Q8_0), as `llama-quantize` does it, and everything else is left alone. No choice is made
by whoever runs it, so these figures tell models apart, and quantizers from models.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from benchmarks.bench_quantizer import Quiet
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from engine.text.tokenizer import load_tokenizer
from quantize.evaluate import compare, read_windows
from quantize.padding import open_padded, padded_config
from quantize.source_model import open_source
from quantize.tally import Figures

Rounding = Callable[[torch.Tensor], torch.Tensor]

BLOCK = 32
SUPER_BLOCK, SUB_BLOCK = 256, 16


def round_q8_0(weight: torch.Tensor) -> torch.Tensor:
    """Blocks of 32 weights, a scale of 1/127 of the largest magnitude."""
    blocks = weight.float().reshape(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True) / 127
    return (torch.round(blocks * _reciprocal(scale)) * scale.half().float()).reshape(weight.shape)


def round_legacy(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Q4_0 and Q5_0: blocks of 32 weights, the one of largest magnitude becoming -2^(bits-1)."""
    zero = 1 << (bits - 1)
    blocks = weight.float().reshape(-1, BLOCK)
    scale = _extreme(blocks) / -zero
    codes = torch.floor(blocks * _reciprocal(scale) + (zero + 0.5)).clamp(0, 2 * zero - 1) - zero
    return (codes * scale.half().float()).reshape(weight.shape)


def round_q6_k(weight: torch.Tensor) -> torch.Tensor:
    """Super blocks of 256 weights: 16 scales of 8 bits, each the best of 19 for its squared-weighted error."""
    blocks = weight.float().reshape(-1, SUB_BLOCK)
    extreme, importance = _extreme(blocks), blocks.square()
    best, scales = torch.full_like(extreme, -1.0), torch.zeros_like(extreme)
    for step in range(-9, 10):
        codes = torch.round(blocks * (-(32 + 0.1 * step) * _reciprocal(extreme))).clamp(-32, 31)
        along = (importance * blocks * codes).sum(1, keepdim=True)
        norm = (importance * codes * codes).sum(1, keepdim=True)
        explained = along.square() * _reciprocal(norm)
        scales = torch.where(explained > best, along * _reciprocal(norm), scales)
        best = torch.maximum(best, explained)
    scales = scales.reshape(-1, SUPER_BLOCK // SUB_BLOCK)
    unit = _extreme(scales) / -128
    whole = torch.round(scales * _reciprocal(unit)).clamp(-128, 127)
    steps = (whole * unit.half().float()).reshape(-1, 1)
    return (torch.round(blocks * _reciprocal(steps)).clamp(-32, 31) * steps).reshape(weight.shape)


def _extreme(blocks: torch.Tensor) -> torch.Tensor:
    """The entry [B, 1] of largest magnitude of each of the blocks [B, n]."""
    return blocks.gather(1, blocks.abs().argmax(1, keepdim=True))


def _reciprocal(values: torch.Tensor) -> torch.Tensor:
    """1 / values, and 0 for 0."""
    return torch.where(values == 0, 0.0, 1 / values)


ROUNDINGS: dict[str, Rounding] = {
    "Q8_0": round_q8_0,
    "Q5_0": lambda weight: round_legacy(weight, 5),
    "Q4_0": lambda weight: round_legacy(weight, 4),
}


def write_rounded(model: Path, name: str, out: Path) -> None:
    """Copy a model of a single weight file, its matrices rounded by the rounding `name`."""
    for path in model.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copy(path, out)
    tensors = load_file(model / "model.safetensors")
    for key, tensor in tensors.items():
        if tensor.ndim == 2:
            is_layer = ".layers." in key
            narrow = name == "Q8_0" or tensor.shape[1] % SUPER_BLOCK != 0
            rounding = ROUNDINGS[name] if is_layer else round_q8_0 if narrow else round_q6_k
            tensors[key] = rounding(tensor)
    save_file({key: tensor.float().contiguous() for key, tensor in tensors.items()}, out / "model.safetensors")


def measure(model: Path, name: str, windows: torch.Tensor) -> Figures:
    """How far the model is from its rounded self on `windows` [W, T]."""
    config = load_config(model)
    with TemporaryDirectory() as folder:
        rounded = Path(folder)
        write_rounded(model, name, rounded)
        found, known = (
            open_source(
                open_padded(each, config), padded_config(config), TorchBackend(), windows.shape[1], rounded
            ).model
            for each in (rounded, model)
        )
        return compare(found, known, windows, rounded, Quiet()).figures


def main() -> None:
    """Print a JSON object for every rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text to measure on")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    options = parser.parse_args()
    windows = read_windows(options.text, load_tokenizer(options.model), options.length, options.windows)
    for name in ROUNDINGS:
        figures = measure(options.model, name, windows)
        found = {
            "model": options.model.name,
            "rounding": name,
            "windows": len(windows),
            "kl": figures.kl_mean,
            "kl_standard_error": figures.kl_standard_error,
            "perplexity": figures.perplexity,
            "original_perplexity": figures.reference_perplexity,
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
