"""One choice of one request, as the engine follows it from arrival to end."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.constraints.base import TokenConstraint
from engine.scheduling.timeline import Timeline
from engine.types import GenerationRequest, SamplingParams


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens known, in flight and computed, and the cache blocks that hold them.

    Prefill, chunked prefill and decode are the same thing: a step computes some of the tokens that are there but not
    yet computed, and when it reaches the last one a new token is sampled. That token is *in flight* until the step has
    been collected: it has its place, and a further step may compute it, but the host does not know yet which it is.

    Attributes:
        request: what is being answered.
        choice: index of this choice, 0 … n - 1.
        seed: of the request; with choice and position it fixes every random draw.
        token_ids: the known tokens: prompt and everything sampled since, also those whose text is still held back.
        max_tokens: most tokens of the answer; None for any number. With 0 nothing is sampled.
        num_in_flight: tokens after the known ones, which steps under way sample.
        num_computed: leading tokens whose keys and values are in the cache, or will be after the steps under way.
        epoch: rises whenever the sequence leaves the steps under way; what these do for an earlier epoch is void.
        block_table: cache block of each run of `block_size` positions.
        cached_tokens: prompt tokens that were found in the cache when the sequence was admitted.
        arrival: number of its request in the order of arrival.
        admitted: whether it has taken part in a step before; a preempted one comes back with this set.
        timeline: when what happened to it.
        num_read: leading positions of the prompt whose output, as far as the request wants it, is known.
        constraint: decides which tokens may come next; has been told of all known tokens of the answer.
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
    max_tokens: int | None = None
    num_in_flight: int = 0
    epoch: int = 0
    num_read: int = 0
    constraint: TokenConstraint | None = None

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
    def num_tokens(self) -> int:
        """Tokens known or in flight; also the position of the token that is sampled next."""
        return len(self.token_ids) + self.num_in_flight

    @property
    def num_generated(self) -> int:
        """Tokens of the answer that are known."""
        return len(self.token_ids) - self.num_prompt

    @property
    def num_sampled(self) -> int:
        """Tokens of the answer, known or in flight."""
        return self.num_tokens - self.num_prompt

    @property
    def num_pending(self) -> int:
        """Tokens not computed yet; at least one while the sequence lives, unless it samples nothing."""
        return self.num_tokens - self.num_computed

    @property
    def constrained(self) -> bool:
        """Whether not every token may come next."""
        return self.constraint is not None and not self.constraint.is_free(self.num_in_flight)

    @property
    def samples(self) -> bool:
        """Whether there is an answer at all."""
        return self.max_tokens != 0

    @property
    def unread(self) -> range:
        """Positions of the prompt whose output the request wants by itself and does not have yet.

        Only the first choice reads the prompt. Its log-probabilities come from the positions before each token.
        """
        pooling = self.request.pooling
        if pooling is not None:
            return range(max(pooling.first_read(self.num_prompt), self.num_read), self.num_prompt)
        if self.choice or self.sampling.prompt_logprobs is None:
            return range(0)
        return range(self.num_read, self.num_prompt - 1)

    @property
    def reusable(self) -> list[int]:
        """The beginning of its tokens that may come from the prefix cache, and the one after it.

        Positions whose output is still wanted have to be computed.
        """
        return self.token_ids[: self.unread.start + 1] if self.unread else self.token_ids

    def awaits_token(self, *, counts_in_flight: bool = False) -> bool:
        """Whether nothing can be computed before a token in flight is known.

        After the last token there is nothing to compute. Penalties count the tokens of the answer before the next is
        sampled, and a constraint follows them, so they must be known.

        Args:
            counts_in_flight: the runner counts tokens in flight for penalties by itself.
        """
        if not self.num_in_flight:
            return False
        needs_all = self.constrained or (self.sampling.has_penalties and not counts_in_flight)
        return needs_all or self.num_sampled == self.max_tokens

    def append(self, token_id: int) -> None:
        """The first token in flight is known now."""
        self.token_ids.append(token_id)
        self.num_in_flight -= 1

    def leave_steps(self) -> None:
        """Drop what is in flight: steps under way no longer count for this sequence."""
        self.num_in_flight = 0
        self.epoch += 1
