"""The least memory a model needs with given settings: weights, workspace, and a cache for one short sequence."""

from __future__ import annotations

from dataclasses import dataclass

from engine.cache.kv_format import KVFormat, kv_dtype
from engine.config import EngineConfig
from engine.errors import CapacityError, ConfigError
from engine.execution.device_step_memory import device_step_bytes
from engine.model.config import ModelConfig
from engine.model.footprint import LOGIT_BYTES, WeightFootprint, workspace_bytes
from engine.ops.backend import Backend
from engine.ops.backend_memory import StepShape
from engine.ops.cuda_backend import CudaBackend

USEFUL_LENGTH = 256
"""Tokens an automatic context length must at least have; a shorter one serves nobody."""

SAMPLING_ROW_COPIES = 8
"""Copies of one row of logits, as float32, that choosing a token and reporting log-probabilities make."""

STATE_COPIES = 2
"""Copies of the hidden states of a step, as float32, that reading them from prompts makes."""

HOST_BYTES = 16 * 2**20
"""What requests and the books kept about them take on the host, as measured with the hardest ones, and some more."""

INDEX_BYTES = 4
STEP_INDICES = 16
"""Integers a token has in the input of a step, with the copies made on the way."""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory in bytes, lengths in tokens.

    Attributes:
        weights: of the model.
        fixed: workspace, however long sequences are.
        per_position: workspace for each position of the longest sequence.
        wanted_length: longest sequence that is asked for.
        length: longest sequence at the least.
        cache_tokens: tokens of the cache at the least, whole blocks.
        kv_format: what a token takes in the cache.
    """

    weights: int
    fixed: int
    per_position: int
    wanted_length: int
    length: int
    cache_tokens: int
    kv_format: KVFormat

    @property
    def workspace(self) -> int:
        """All of the workspace."""
        return self.fixed + self.length * self.per_position

    @property
    def cache(self) -> int:
        """The cache."""
        return self.cache_tokens * self.kv_format.bytes_per_token

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.workspace + self.cache


def least_need(config: EngineConfig, model_config: ModelConfig, weights: WeightFootprint, backend: Backend) -> Need:
    """What must fit for these settings to be kept.

    Raises:
        ConfigError: `max_model_len` exceeds what the model supports.
        CapacityError: `kv_cache_tokens` is less than the `max_model_len` that is asked for.
    """
    wanted = wanted_length(config, model_config)
    asked = whole_blocks(config.kv_cache_tokens, config.block_size)
    length = config.max_model_len or min(wanted, USEFUL_LENGTH, asked or wanted)
    if asked and asked < length:
        raise CapacityError(
            f"The KV cache would hold {asked} tokens (kv_cache_tokens), but one sequence may have max_model_len "
            f"({length}) tokens. Raise kv_cache_tokens, or lower max_model_len."
        )
    step = _step(config, model_config)
    return Need(
        weights=weights.total,
        fixed=_fixed_workspace(config, model_config, backend, step),
        per_position=_workspace_per_position(config, model_config, backend, step),
        wanted_length=wanted,
        length=length,
        cache_tokens=asked or whole_blocks(length, config.block_size),
        kv_format=_kv_format(config, model_config),
    )


def wanted_length(config: EngineConfig, model_config: ModelConfig) -> int:
    """Longest sequence that is asked for, in tokens; what memory allows may be less.

    Raises:
        ConfigError: `max_model_len` exceeds what the model supports.
    """
    most = model_config.max_position_embeddings
    if config.max_model_len > most:
        raise ConfigError(
            f"max_model_len is {config.max_model_len}, but the model supports at most {most} tokens "
            "(max_position_embeddings in config.json). Set it to that or less, or to 0 for as long as possible."
        )
    return config.max_model_len or most


def whole_blocks(tokens: int, block_size: int) -> int:
    """Tokens, rounded up to whole blocks."""
    return tokens + -tokens % block_size


def _kv_format(config: EngineConfig, model_config: ModelConfig) -> KVFormat:
    dtype = kv_dtype(config.kv_cache_dtype)
    return KVFormat(model_config.num_layers, model_config.num_kv_heads, model_config.head_dim, dtype)


def _step(config: EngineConfig, model_config: ModelConfig) -> StepShape:
    queries = model_config.num_heads * model_config.head_dim
    return StepShape(
        tokens=config.max_num_batched_tokens,
        widest_input=max(model_config.hidden_size, model_config.intermediate_size, queries),
        num_heads=model_config.num_heads,
        num_kv_heads=model_config.num_kv_heads,
        head_dim=model_config.head_dim,
    )


def _fixed_workspace(config: EngineConfig, model_config: ModelConfig, backend: Backend, step: StepShape) -> int:
    rows = min(config.max_num_seqs, step.tokens)
    if isinstance(backend, CudaBackend):
        kv_format = _kv_format(config, model_config)
        results = device_step_bytes(kv_format, config.block_size, model_config.vocab_size, step.tokens, rows)
    else:
        results = (rows + SAMPLING_ROW_COPIES) * model_config.vocab_size * LOGIT_BYTES
        results += STATE_COPIES * step.tokens * model_config.hidden_size * LOGIT_BYTES
    indices = step.tokens * STEP_INDICES * INDEX_BYTES
    activations = workspace_bytes(model_config, backend.activation_dtype, step.tokens, rows)
    return activations + backend.memory.scratch(step) + results + indices + HOST_BYTES


def _workspace_per_position(config: EngineConfig, model_config: ModelConfig, backend: Backend, step: StepShape) -> int:
    """Rotary tables, the table of every sequence's blocks (held, and made anew for a step), and the kernels' own."""
    rotary = model_config.head_dim * LOGIT_BYTES
    block_tables = -(-2 * INDEX_BYTES * min(config.max_num_seqs, step.tokens) // config.block_size)
    return rotary + block_tables + backend.memory.scratch_per_position(step)
