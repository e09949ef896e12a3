"""One choice of one request, as the engine follows it from arrival to end."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.scheduling.timeline import Timeline
from engine.types import GenerationRequest, SamplingParams


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens known, tokens computed, and the cache blocks that hold them.

    Prefill, chunked prefill and decode are the same thing: a step computes some of the tokens that are known but not
    yet computed, and when it reaches the last known one a new token is sampled.

    Attributes:
        request: what is being answered.
        choice: index of this choice, 0 … n - 1.
        seed: of the request; with choice and position it fixes every random draw.
        token_ids: prompt and everything sampled since, including tokens whose text is still held back.
        num_computed: leading tokens whose keys and values are in the cache.
        block_table: cache block of each run of `block_size` positions.
        cached_tokens: prompt tokens that were found in the cache when the sequence was admitted.
        arrival: number of its request in the order of arrival.
        admitted: whether it has taken part in a step before; a preempted one comes back with this set.
        timeline: when what happened to it.
    """

    request: GenerationRequest
    choice: int
    seed: int
    token_ids: list[int]
    num_computed: int = 0
    block_table: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    arrival: int = 0
    admitted: bool = False
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def sampling(self) -> SamplingParams:
        return self.request.sampling

    @property
    def rank(self) -> tuple[int, int, int]:
        """Place in the order of all sequences: by priority, then arrival, then choice; the lowest goes first."""
        return self.request.priority, self.arrival, self.choice

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_token_ids)

    @property
    def num_generated(self) -> int:
        """Tokens sampled so far."""
        return len(self.token_ids) - self.num_prompt

    @property
    def num_pending(self) -> int:
        """Tokens known but not computed; at least one while the sequence lives."""
        return len(self.token_ids) - self.num_computed
