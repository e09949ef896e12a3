"""What the engine tells about itself with every step."""

from __future__ import annotations

from typing import NamedTuple


class EngineStats(NamedTuple):
    """Gauges (as of now) and counters (since start; never falling)."""

    running: int = 0  # sequences that take part in steps
    waiting: int = 0  # sequences that do not yet
    kv_blocks_total: int = 0
    kv_blocks_used: int = 0  # referenced by a living sequence; cached but free ones are not counted
    steps_total: int = 0
    prompt_tokens_total: int = 0  # of admitted requests, cached or not
    generation_tokens_total: int = 0  # sampled
    prefix_cache_queries_total: int = 0  # prompt tokens looked up
    prefix_cache_hits_total: int = 0  # prompt tokens found
    preemptions_total: int = 0
    restarts_total: int = 0  # engine processes started in place of one that failed
    waiting_for_cache: int = 0  # of `waiting`: too few free blocks
    waiting_for_batch: int = 0  # of `waiting`: as many sequences run as may
    waiting_for_budget: int = 0  # of `waiting`: the step's tokens were spent on others
    waiting_for_prompt: int = 0  # of `waiting`: further choices, until the first has computed the prompt
    waiting_for_grammar: int = 0  # of `waiting`: the grammar of their request is being compiled


COUNTERS = tuple(name for name in EngineStats._fields if name.endswith("_total") and name != "kv_blocks_total")


def continued(before: EngineStats, now: EngineStats) -> EngineStats:
    """Figures of an engine that took the place of another: the counters go on from those of `before`."""
    return now._replace(**{name: getattr(before, name) + getattr(now, name) for name in COUNTERS})


def ended(stats: EngineStats) -> EngineStats:
    """Figures of an engine that is no more: its counters; nothing runs, waits or is held in it."""
    return EngineStats(**{name: getattr(stats, name) for name in COUNTERS})
