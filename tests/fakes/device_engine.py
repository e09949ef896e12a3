"""Engines over the toy model: one whose steps run late, on a device of their own, and one that computes as it goes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

from engine.cache.block_manager import BlockManager
from engine.config import EngineConfig
from engine.core import EngineCore
from engine.execution.device_model_runner import DeviceModelRunner
from engine.execution.model_runner import ModelRunner
from engine.model.config import ModelConfig
from engine.model.loader import LoadedModel
from engine.ops.torch_backend import TorchBackend
from engine.sampling.device_sampler import DeviceSampler
from engine.scheduling.scheduler import Scheduler
from tests.emulation.device import EmulatedRuntime
from tests.emulation.late import LateDevice
from tests.fakes.device_toy import ToyDeviceModel, ToyLoaded, toy_cache
from tests.fakes.toy_engine import EOS, toy_grammars, toy_model, toy_tokens


@dataclass(frozen=True)
class ToySize:
    """Bounds of an engine."""

    num_blocks: int = 64
    block_size: int = 4
    max_model_len: int = 64
    max_num_seqs: int = 4
    max_num_batched_tokens: int = 24
    prefix_caching: bool = True


def config_of(size: ToySize) -> EngineConfig:
    """The settings that runners look at."""
    return EngineConfig(
        max_num_seqs=size.max_num_seqs,
        max_num_batched_tokens=size.max_num_batched_tokens,
        max_model_len=size.max_model_len,
        block_size=size.block_size,
    )


def loaded_toy(config: ModelConfig) -> LoadedModel:
    """The toy in place of a model."""
    return cast("LoadedModel", ToyLoaded(ToyDeviceModel(config, TorchBackend()), config))


def host_engine(config: ModelConfig, size: ToySize) -> EngineCore:
    """The reference: tokens are chosen on the host, step by step."""
    runner = ModelRunner(loaded_toy(config), toy_cache(size.num_blocks, size.block_size), config_of(size), (EOS,))
    return core_around(config, size, runner, 0)


def make_runner(
    config: ModelConfig, size: ToySize, runtime: EmulatedRuntime, *, graphs: bool = True
) -> DeviceModelRunner:
    """A runner on the emulated device."""
    rows = min(size.max_num_seqs, size.max_num_batched_tokens)
    return DeviceModelRunner(
        loaded_toy(config),
        toy_cache(size.num_blocks, size.block_size),
        config_of(size),
        DeviceSampler(runtime, config.vocab_size, rows, (EOS,)),
        runtime.steps(),
        graphs=graphs,
    )


def late_runner(
    config: ModelConfig, size: ToySize, runtime: EmulatedRuntime, *, graphs: bool = True
) -> tuple[DeviceModelRunner, LateDevice]:
    """The same, warmed up; and the device."""
    runner = make_runner(config, size, runtime, graphs=graphs)
    runner.warm_up()
    return runner, runtime.late


def late_engine(
    config: ModelConfig, size: ToySize, runtime: EmulatedRuntime, *, graphs: bool = True, pipeline_depth: int = 1
) -> tuple[EngineCore, LateDevice]:
    """An engine on the emulated device; and the device."""
    runner, device = late_runner(config, size, runtime, graphs=graphs)
    return core_around(config, size, runner, pipeline_depth), device


def core_around(
    config: ModelConfig, size: ToySize, runner: ModelRunner | DeviceModelRunner, pipeline_depth: int
) -> EngineCore:
    """A core with a clock that moves by one whenever it is read."""
    blocks = BlockManager(size.num_blocks, size.block_size, prefix_caching=size.prefix_caching)
    scheduler = Scheduler(
        blocks,
        max_num_seqs=size.max_num_seqs,
        max_num_batched_tokens=size.max_num_batched_tokens,
        counts_in_flight=runner.counts_in_flight,
    )
    model = toy_model(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        max_model_len=size.max_model_len,
        block_size=size.block_size,
        kv_cache_tokens=size.num_blocks * size.block_size,
    )
    clock = itertools.count().__next__
    tokens, grammars = toy_tokens(), toy_grammars()
    return EngineCore(model, scheduler, blocks, runner, tokens, grammars, pipeline_depth=pipeline_depth, clock=clock)
