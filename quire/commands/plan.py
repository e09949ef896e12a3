"""`quire plan`"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import CapacityError
from engine.execution.memory import MemoryPlan, plan_model
from engine.free_memory import readable_size
from engine.model.config import load_config
from engine.ops.select import select_backend
from quire.arguments import ArgumentParser
from quire.configuration import add_model_options, outlined_engine


def run(arguments: Sequence[str]) -> int:
    """Say what serving a model would take, without loading it; 1 where it does not fit."""
    parsed = _parser().parse(arguments)
    try:
        with outlined_engine(parsed) as config:
            plan = _plan(config)
    except CapacityError as shortage:
        if not parsed.json:
            raise
        print(json.dumps({"fits": False, "reason": str(shortage)}, indent=2))
        return 1
    print(json.dumps(_report(plan), indent=2) if parsed.json else _summary(plan))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "quire plan",
        "Say what serving a model with these settings would take of the memory that is free now. Only config.json and "
        "the headers of the weights are read, and of a hub id no more is fetched. Exit status 1 if it does not fit.",
    )
    parser.add_argument("model", metavar="MODEL", help="model directory or hub id (org/name)")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON, sizes in bytes")
    add_model_options(parser)
    return parser


def _plan(config: EngineConfig) -> MemoryPlan:
    directory = Path(config.model)
    backend = select_backend(config.device, config.kernels, config.threads)
    return plan_model(config, directory, load_config(directory, config.ignore_config_keys), backend)


def _report(plan: MemoryPlan) -> dict[str, object]:
    return {
        "fits": True,
        "free_bytes": plan.free,
        "weight_bytes": plan.weights.total,
        "weight_matrix_bytes": plan.weights.matrices,
        "workspace_bytes": plan.workspace,
        "kv_cache_bytes": plan.cache.num_bytes,
        "kv_bytes_per_token": plan.cache.format.bytes_per_token,
        "total_bytes": plan.total,
        "headroom_bytes": plan.headroom,
        "settings": {
            "kv_cache_tokens": plan.cache.num_tokens,
            "kv_cache_dtype": plan.cache.dtype,
            "block_size": plan.cache.block_size,
            "max_model_len": plan.cache.max_model_len,
            "max_num_seqs": plan.max_num_seqs,
            "max_num_batched_tokens": plan.max_num_batched_tokens,
        },
        "most_kv_cache_tokens": plan.most_cache_tokens,
    }


def _summary(plan: MemoryPlan) -> str:
    weights, cache = plan.weights, plan.cache
    bits = weights.matrices * 8 / weights.matrix_weights
    rows = [
        ("weights", weights.total, f"matrices {readable_size(weights.matrices)}, {bits:.2f} bits per weight in memory"),
        ("workspace", plan.workspace, f"{plan.max_num_batched_tokens} tokens, {plan.max_num_seqs} sequences per step"),
        (
            "KV cache",
            cache.num_bytes,
            f"{cache.num_tokens} tokens in {cache.dtype}, {readable_size(cache.format.bytes_per_token)} each",
        ),
        ("total", plan.total, f"longest sequence {cache.max_model_len} tokens"),
    ]
    if plan.free is not None and plan.headroom is not None:
        rows += [
            ("free now", plan.free, ""),
            ("headroom", plan.headroom, f"a KV cache of {plan.most_cache_tokens} tokens would take all of it"),
        ]
    return "\n".join(f"{name:<10} {readable_size(size):>10}  {note}".rstrip() for name, size, note in rows)
