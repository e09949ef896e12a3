"""Settings of the engine. Names, defaults and meanings live here once; every way to set them fills these fields."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from engine.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
KernelChoice = Literal["auto", "native", "torch"]
KVCacheDtype = Literal["auto", "float16", "bfloat16", "float32"]
ToolFormatName = Literal[
    "auto",
    "harmony",
    "mistral_named",
    "mistral",
    "deepseek_v31",
    "deepseek",
    "kimi_k2",
    "cohere",
    "lfm2",
    "granite",
    "phi4",
    "nemotron",
    "hunyuan",
    "minimax_m1",
    "glm",
    "seed_oss",
    "minimax_m2",
    "qwen3_coder",
    "hermes",
    "xlam",
    "pythonic",
    "function_json",
    "llama3_json",
    "generic",
]

ReasoningFormatName = Literal[
    "auto", "none", "think", "thinking", "thought", "mistral", "seed_oss", "cohere", "granite"
]

MAX_THREADS = 1024
"""Most CPU threads that can be asked for: more than any machine has cores."""

MOST = {"max_num_seqs": 2**16, "max_num_batched_tokens": 2**20, "block_size": 1024, "kv_cache_tokens": 2**31 - 2**11}
"""Largest values of settings that tables are made by; places in the cache are counted in 32 bits."""

_CHOICES = {
    "device": Device,
    "kernels": KernelChoice,
    "kv_cache_dtype": KVCacheDtype,
    "tool_format": ToolFormatName,
    "reasoning_format": ReasoningFormatName,
}


def setting(default: Any, doc: str) -> Any:
    """A dataclass field that carries its own documentation, for `--help`, errors and the docs."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How a model is loaded and run.

    Raises:
        ConfigError: a value is out of range; the message names the setting.
    """

    model: str = setting("", "model directory")
    name: str = setting("", "what to call the model; empty means its hub id, or the name of its directory")
    device: Device = setting("auto", "device to run on")
    kernels: KernelChoice = setting("auto", "native kernels, the torch reference, or native where they are built")
    threads: int = setting(0, "CPU threads for the kernels; 0 means one per physical core this process may use")
    max_model_len: int = setting(0, "longest prompt plus answer in tokens; 0 means what the model supports")
    max_num_seqs: int = setting(64, "most sequences in one step")
    max_num_batched_tokens: int = setting(512, "token budget of one step, shared by prefill chunks and decodes")
    max_queued_requests: int = setting(
        512, "most prompts that may wait for their first token; further ones are refused with 429; 0 means any number"
    )
    max_queued_tokens: int = setting(
        1 << 20,
        "most tokens of the prompts that wait together, at about 40 bytes of memory each; further ones are refused "
        "with 429; 0 means any number",
    )
    max_step_ms: float = setting(
        250.0,
        "milliseconds a step may take while answers are under way, for which prompts are cut into smaller chunks; "
        "or three times what a step without prompts takes, if that is more; 0 is off",
    )
    request_timeout: float = setting(
        0.0, "seconds from its arrival after which a request fails that names no `timeout` itself; 0 means never"
    )
    block_size: int = setting(16, "tokens per block of the KV cache")
    kv_cache_tokens: int = setting(0, "size of the KV cache in tokens; 0 sizes it from free memory")
    kv_cache_dtype: KVCacheDtype = setting("auto", "element type of the KV cache; auto means float16")
    memory_fraction: float = setting(
        0.5, "share of what weights and workspace leave that the KV cache may take when sized automatically"
    )
    grammar_timeout: float = setting(
        10.0, "seconds the grammar of a request (a JSON schema, say) may take to compile, after which the request fails"
    )
    tool_format: ToolFormatName = setting(
        "auto", "how the model writes tool calls; auto means as its chat template has it"
    )
    reasoning_format: ReasoningFormatName = setting(
        "auto",
        "how the model marks its reasoning; auto means as its chat template or its tokens have it, none that its "
        "answers are taken as they are",
    )
    prefix_caching: bool = setting(True, "reuse cache blocks of equal prompt beginnings")
    hang_timeout: float = setting(
        120.0, "seconds without a sign of life after which the engine counts as hung; must exceed its longest step"
    )
    load_timeout: float = setting(
        600.0, "seconds loading may go on without getting any further, after which it counts as hung"
    )
    max_restarts: int = setting(3, "restarts of a failed engine within restart_window after which the server gives up")
    restart_window: float = setting(300.0, "seconds after which a restart of the engine is forgotten")
    ignore_config_keys: tuple[str, ...] = setting((), "keys of config.json to accept although Quire does not know them")

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(choices):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(choices))}, not '{value}'.")
        for name in ("max_num_seqs", "max_num_batched_tokens", "block_size"):
            if not 1 <= getattr(self, name) <= MOST[name]:
                raise ConfigError(f"{name} must be between 1 and {MOST[name]}, not {getattr(self, name)}.")
        if self.max_restarts < 0:
            raise ConfigError(f"max_restarts must not be negative (0 means none), not {self.max_restarts}.")
        for name in ("grammar_timeout", "hang_timeout", "load_timeout", "restart_window"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0 seconds, not {getattr(self, name)}.")
        for name in ("threads", "max_model_len", "kv_cache_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative (0 means automatic), not {getattr(self, name)}.")
        if self.max_model_len == 1:
            raise ConfigError("max_model_len must leave room for a token of prompt and one of answer, not 1.")
        if self.kv_cache_tokens > MOST["kv_cache_tokens"]:
            raise ConfigError(f"kv_cache_tokens must be at most {MOST['kv_cache_tokens']}, not {self.kv_cache_tokens}.")
        for name in ("max_queued_requests", "max_queued_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative (0 means any number), not {getattr(self, name)}.")
        if not 0.0 <= self.max_step_ms < math.inf:
            raise ConfigError(f"max_step_ms must be milliseconds, or 0 for off, not {self.max_step_ms}.")
        if not 0.0 <= self.request_timeout < math.inf:
            raise ConfigError(f"request_timeout must be seconds, or 0 for never, not {self.request_timeout}.")
        if self.threads > MAX_THREADS:
            raise ConfigError(f"threads must be at most {MAX_THREADS}, not {self.threads}.")
        if not 0.0 < self.memory_fraction <= 1.0:
            raise ConfigError(f"memory_fraction must be above 0 and at most 1, not {self.memory_fraction}.")


def documentation(config: type) -> dict[str, str]:
    """Documentation of every setting of a config class, by name."""
    return {each.name: each.metadata["doc"] for each in fields(config)}
