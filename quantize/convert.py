"""From EXL2 (or any format Quire reads) back to a plain float16 checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig, load_config
from engine.model.config_reader import read_json
from engine.model.formats.base import LinearShape, read_bias
from engine.model.formats.exl2 import Exl2Format, load_exl2
from engine.model.formats.table import format_of
from engine.model.tensor_layout import TensorLayout, check_tensors, tensor_layout
from engine.ops.exl2 import decode
from quantize.output_directory import output_directory
from quantize.progress import Progress
from quantize.writer import write_model

SHARD_BYTES = 5 << 30


def convert_to_dense(
    source: Path,
    out: Path,
    *,
    progress: Progress,
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = SHARD_BYTES,
    ignore_config_keys: tuple[str, ...] = (),
) -> dict[str, int]:
    """Write the decoded weights of `source` as a plain Hugging Face checkpoint that transformers loads.

    A head that is stored apart from a tied embedding stays a matrix of its own, and config.json then says that the
    two are not tied. `ignore_config_keys` of the source's config.json are treated as absent, but come along.

    Returns:
        Size in bytes of each weight file, by name.

    Raises:
        QuantizationError: `out` exists and is not empty, or cannot be written; see `output_directory`.
        CheckpointError, UnsupportedModelError: the source cannot be used.
    """
    model = load_config(source, ignore_config_keys)
    with output_directory(out) as folder:
        checkpoint = Checkpoint.open(source)
        layout = tensor_layout(model, checkpoint)
        check_tensors(layout, checkpoint)
        progress.stage("Converting", sum(1 for _ in layout.linears))
        return write_model(
            folder,
            _dense_tensors(checkpoint, layout, model, dtype, progress),
            config=_dense_config(source, layout, dtype),
            side_files_from=source,
            shard_bytes=shard_bytes,
            stem="model",
        )


def _dense_config(source: Path, layout: TensorLayout, dtype: torch.dtype) -> dict[str, object]:
    """The source's config.json without what speaks of its quantization."""
    config = {key: value for key, value in read_json(source / "config.json").items() if key != "quantization_config"}
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    config.pop("dtype", None)
    config["tie_word_embeddings"] = layout.head_is_tied
    return config


def _dense_tensors(
    checkpoint: Checkpoint, layout: TensorLayout, model: ModelConfig, dtype: torch.dtype, progress: Progress
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in model order."""
    names = model.spec.names
    yield f"{names.embedding}.weight", checkpoint.tensor(layout.embedding).to(dtype)
    for layer in layout.layers:
        for name, _ in layer.norms.values():
            yield name, checkpoint.tensor(name).to(dtype)
        for shape in layer.linears.values():
            yield from _dense_linear(checkpoint, shape, dtype)
            progress.advance(1, shape.prefix)
    yield layout.final_norm, checkpoint.tensor(layout.final_norm).to(dtype)
    if not layout.head_is_tied:
        yield from _dense_linear(checkpoint, layout.head, dtype)
        progress.advance(1, layout.head.prefix)


def _dense_linear(checkpoint: Checkpoint, shape: LinearShape, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """One matrix as [out, in], and its bias, without the columns that pad it in EXL2."""
    if format_of(checkpoint, shape.prefix).name == Exl2Format.name:
        tensors = load_exl2(checkpoint, shape)
        weight, bias = decode(tensors)[:, : shape.out_features].T.contiguous(), tensors.bias
    else:
        weight, bias = checkpoint.tensor(f"{shape.prefix}.weight"), read_bias(checkpoint, shape, shape.out_features)
    yield f"{shape.prefix}.weight", weight.to(dtype)
    if bias is not None:
        yield f"{shape.prefix}.bias", bias[: shape.out_features].to(dtype)
