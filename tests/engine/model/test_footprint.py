"""What is told in advance is what is kept afterwards, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.cache.kv_format import KVFormat
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.errors import CheckpointError
from engine.execution.model_runner import ModelRunner
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.footprint import weight_footprint, workspace_bytes
from engine.model.loader import load_model
from engine.ops.backend import Backend
from engine.ops.cpu_backend import CpuBackend
from engine.ops.torch_backend import TorchBackend
from engine.scheduling.batch import ScheduledBatch
from tests.engine.execution.steps import share
from tests.engine.model.exl2_directory import write_random_exl2_llama
from tests.parity.families import FAMILIES, build, save

BACKENDS: dict[str, Callable[[], Backend]] = {
    "native": lambda: CpuBackend(2),
    "torch": TorchBackend,
    "bfloat16": lambda: TorchBackend(activation_dtype=torch.bfloat16),
}


@pytest.fixture(params=["exl2", "exl2-untied", *FAMILIES])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Every kind of model: formats, biases, norms of queries and keys, tied and untied heads."""
    if request.param in FAMILIES:
        return save(build(FAMILIES[request.param]), tmp_path / "model")
    write_random_exl2_llama(tmp_path / "model", tied=request.param == "exl2", vocab=150, widths=(6, 5, 3))
    return tmp_path / "model"


@pytest.mark.parametrize("name", BACKENDS)
def test_weights_and_workspace(directory: Path, name: str) -> None:
    backend = BACKENDS[name]()
    config = load_config(directory)
    footprint = weight_footprint(config, Checkpoint.open(directory), backend)

    loaded = load_model(directory, backend, config=config, max_tokens=20)
    assert footprint.total == loaded.summary.weight_bytes

    kv_format = KVFormat(config.num_layers, config.num_kv_heads, config.head_dim, torch.float16)
    cache = PagedKVCache(kv_format, num_blocks=8, block_size=8, device=backend.device)
    runner = ModelRunner(loaded, cache, EngineConfig(max_num_seqs=3, max_num_batched_tokens=20, max_model_len=32), ())
    runner.warm_up()
    whole_prompt = replace(share(list(range(20)), 0, 20, [0, 1, 2]), reads=range(19))
    assert len(runner.submit(ScheduledBatch((whole_prompt,))).readings[0].tokens) == 19
    assert loaded.model.workspace_bytes == workspace_bytes(config, backend.activation_dtype, tokens=20, rows=3)


def test_no_tensor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_random_exl2_llama(tmp_path)

    def read(_: Checkpoint, name: str) -> torch.Tensor:
        raise AssertionError(name)

    monkeypatch.setattr(Checkpoint, "tensor", read)
    assert weight_footprint(load_config(tmp_path), Checkpoint.open(tmp_path), TorchBackend()).total > 0


def test_a_directory_that_is_not_the_model_is_refused(tmp_path: Path) -> None:
    write_random_exl2_llama(tmp_path, layers=1)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))

    with pytest.raises(CheckpointError, match="lacks"):
        weight_footprint(load_config(tmp_path), Checkpoint.open(tmp_path), TorchBackend())
