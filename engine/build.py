"""The composition root: from settings to a running engine core. Nothing else knows all the parts."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from engine.cache.block_manager import BlockManager
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.constraints.grammar import GrammarCompiler
from engine.constraints.grammar_builder import GrammarBuilder
from engine.core import EngineCore
from engine.errors import CheckpointError
from engine.execution.device_errors import naming_device_errors, naming_lack_of_memory
from engine.execution.device_model_runner import DeviceModelRunner
from engine.execution.memory import CachePlan, check_cache_still_fits, plan_model
from engine.execution.model_runner import ModelRunner
from engine.load_report import UNREPORTED, LoadReport
from engine.model.config import load_config
from engine.model.loader import LoadedModel, load_model
from engine.ops.cuda_backend import CudaBackend
from engine.ops.select import select_backend
from engine.sampling.device_sampler import DeviceSampler
from engine.scheduling.scheduler import Scheduler
from engine.text.defaults import generation_defaults
from engine.text.token_bytes import TokenBytes, token_bytes
from engine.text.tokenizer import load_tokenizer
from engine.types import ModelInfo

logger = logging.getLogger(__name__)

SMALLEST_SHARE_OF_TOKENS = 0.75


@naming_device_errors()
@naming_lack_of_memory()
def build_engine(
    config: EngineConfig, report: LoadReport = UNREPORTED, *, pipeline_depth: int | None = None
) -> tuple[EngineCore, ModelInfo]:
    """Load a model and put an engine around it, warmed up for the largest step the scheduler may ask for.

    Whatever is large has its final size then, and is part of the plan that was made before anything was loaded.

    Args:
        config: settings.
        report: told how far loading is.
        pipeline_depth: as for `EngineCore`. None is 1 where steps run on a device of their own; elsewhere tokens are
            chosen on the host, there is nothing to overlap, and more than 0 only delays them.

    Raises:
        ConfigError: a setting does not fit the model or the machine.
        CheckpointError: the model directory is missing, corrupt or inconsistent.
        UnsupportedModelError: the model asks for something Quire does not implement.
        TokenizerError: the tokenizer is unusable or does not belong to the model.
        CapacityError: model or cache do not fit in memory.
        NativeLibraryError: native kernels are asked for by name and cannot be used.
        DeviceError: the device is lost.
    """
    started = time.monotonic()
    report.stage("checks")
    directory = _model_directory(config)
    backend = select_backend(config.device, config.kernels, config.threads)
    model_config = load_config(directory, config.ignore_config_keys)
    tokenizer = load_tokenizer(directory)
    tokens = token_bytes(tokenizer, model_config.vocab_size)
    _warn_of_a_small_tokenizer(tokenizer.vocab_size, model_config.vocab_size, directory)
    end_token_ids = generation_defaults(directory, tokenizer).eos_token_ids
    _check_end_tokens(end_token_ids, model_config.vocab_size, directory)
    memory = plan_model(config, directory, model_config, backend, report.room_to_come)
    report.checked()
    if report.room_to_come:  # which is there now, or is not
        memory = plan_model(config, directory, model_config, backend)
    plan, config = memory.cache, memory.applied_to(config)
    loaded = load_model(
        directory,
        backend,
        config=model_config,
        max_positions=plan.max_model_len,
        max_tokens=config.max_num_batched_tokens,
        report=report,
    )

    report.stage("cache")
    check_cache_still_fits(memory, backend)
    cache = PagedKVCache(plan.format, plan.num_blocks, plan.block_size, backend.device)
    runner = _runner(loaded, cache, config, end_token_ids)
    report.stage("warm-up")
    runner.warm_up()

    model = _describe(config, directory, loaded, runner, plan, end_token_ids, time.monotonic() - started)
    depth = runner.pipeline_depth if pipeline_depth is None else pipeline_depth
    return _core(config, plan, model, runner, tokens, depth), model


def _runner(
    loaded: LoadedModel, cache: PagedKVCache, config: EngineConfig, end_token_ids: tuple[int, ...]
) -> ModelRunner | DeviceModelRunner:
    """What computes steps: a CUDA device by itself, anything else as the host goes along."""
    backend = loaded.model.backend
    if not isinstance(backend, CudaBackend):
        return ModelRunner(loaded, cache, config, end_token_ids)
    rows = min(config.max_num_seqs, config.max_num_batched_tokens)
    sampler = DeviceSampler(backend.runtime, loaded.config.vocab_size, rows, end_token_ids)
    return DeviceModelRunner(loaded, cache, config, sampler, backend.runtime.steps())


def _core(
    config: EngineConfig,
    plan: CachePlan,
    model: ModelInfo,
    runner: ModelRunner | DeviceModelRunner,
    tokens: TokenBytes,
    pipeline_depth: int,
) -> EngineCore:
    blocks = BlockManager(plan.num_blocks, plan.block_size, prefix_caching=config.prefix_caching)
    scheduler = Scheduler(
        blocks,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_step_seconds=config.max_step_ms / 1000,
        counts_in_flight=runner.counts_in_flight,
    )
    return EngineCore(
        model,
        scheduler,
        blocks,
        runner,
        tokens,
        GrammarBuilder(GrammarCompiler(tokens, model.eos_token_ids), config.grammar_timeout),
        pipeline_depth=pipeline_depth,
        request_timeout=config.request_timeout,
    )


def _model_directory(config: EngineConfig) -> Path:
    directory = Path(config.model).expanduser().resolve()
    if not config.model or not directory.is_dir():
        raise CheckpointError(f"There is no model directory '{config.model}'.")
    return directory


def _check_end_tokens(end_token_ids: tuple[int, ...], vocab_size: int, directory: Path) -> None:
    beyond = [token for token in end_token_ids if token >= vocab_size]
    if beyond:
        raise CheckpointError(
            f"{directory}: end token {beyond[0]} is not in the model's vocabulary, which ends at {vocab_size - 1}. "
            "Correct eos_token_id in generation_config.json (or, where that names none, in config.json)."
        )


def _warn_of_a_small_tokenizer(known: int, vocab_size: int, directory: Path) -> None:
    """Vocabularies are padded by a few per cent; a larger gap looks like the tokenizer of another model."""
    if known < SMALLEST_SHARE_OF_TOKENS * vocab_size:
        logger.warning(
            "The tokenizer in %s knows %d tokens, the model has %d; if answers make no sense, it is another model's.",
            directory,
            known,
            vocab_size,
        )


def _describe(
    config: EngineConfig,
    directory: Path,
    loaded: LoadedModel,
    runner: ModelRunner | DeviceModelRunner,
    plan: CachePlan,
    end_token_ids: tuple[int, ...],
    load_seconds: float,
) -> ModelInfo:
    summary, backend = loaded.summary, loaded.model.backend
    return ModelInfo(
        name=config.name or directory.name,
        path=str(directory),
        architecture=loaded.config.architecture,
        weight_format=summary.weight_format,
        bits_per_weight=summary.bits_per_weight,
        head_bits_per_weight=summary.head_bits_per_weight,
        parameters=summary.parameters,
        weight_bytes=summary.weight_bytes,
        device=backend.device.type,
        kernels=backend.name,
        threads=backend.threads,
        vocab_size=loaded.config.vocab_size,
        hidden_size=loaded.config.hidden_size,
        max_model_len=plan.max_model_len,
        block_size=plan.block_size,
        kv_cache_tokens=plan.num_tokens,
        kv_cache_bytes=plan.num_bytes,
        kv_cache_dtype=plan.dtype,
        eos_token_ids=end_token_ids,
        load_seconds=load_seconds,
        max_queued_requests=config.max_queued_requests,
        max_queued_tokens=config.max_queued_tokens,
        max_biased_tokens=runner.max_biased_tokens,
        max_stop_tokens=runner.max_stop_tokens,
    )
