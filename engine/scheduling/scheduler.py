"""Which tokens the next step computes: continuous batching under one token budget.

Every running sequence has tokens that are not computed: one after its last sampled token (decode), many at its start
(prefill). A step first gives all that want one token theirs, so that no answer stands still while a long prompt is
computed. What is left of the budget goes to the prompts, running or waiting, in the order of rank: priority, then
arrival. Each gets as many tokens as the budget still allows; a waiting one is admitted with blocks for all of its.

Two things follow. Only the last share of a step can be a chunk with more to come. And since a sequence wants a single
token only after a share of its own, beside those of all others that do, the budget always has enough for them.

A step may be scheduled while others are under way. It counts on what they compute, and a decode may take a token that
they have not sampled yet. A sequence that must know that token first sits this step out, but keeps its place in the
budget. When a step has been collected, what it did for sequences that have since ended or lost their blocks is void.

Rank also says who gives way: when blocks run out, the running sequence that is last in rank loses its own. The first
never does, so there is always progress, and within a priority nobody is overtaken for ever. Less important requests
may wait as long as more important ones keep coming.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Sequence as Sequences

from engine.cache.block import BlockCopy
from engine.cache.block_manager import BlockManager
from engine.errors import CapacityError
from engine.scheduling.batch import ScheduledBatch, ScheduledSequence
from engine.scheduling.pacing import StepPacer
from engine.scheduling.sequence import Sequence
from engine.scheduling.waiting import WaitingQueue, WaitReason


class Scheduler:
    """Queues of sequences, and the blocks they hold. Deterministic.

    Every sequence given to it must fit the cache when it is alone (see `engine/admission.py`).

    Args:
        blocks: the cache's blocks.
        max_num_seqs: most sequences in one step.
        max_num_batched_tokens: most tokens in one step.
        max_step_seconds: what a step may take while answers are under way, kept by shorter chunks of prompts as
            `StepPacer` says; 0 means any time.
        counts_in_flight: the runner counts tokens in flight for penalties; otherwise sequences with penalties wait
            until their latest token is known.

    Attributes:
        preemptions: sequences that had to give back their blocks, so far.
        prompt_tokens: prompt tokens of the requests admitted so far.
        prefix_queries: of these, the ones looked up in the prefix cache.
        prefix_hits: of these, the ones found.
    """

    def __init__(
        self,
        blocks: BlockManager,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_step_seconds: float = 0.0,
        counts_in_flight: bool = False,
    ) -> None:
        self._blocks = blocks
        self._max_running = max_num_seqs
        self._pacer = StepPacer(max_num_batched_tokens, max_step_seconds)
        self._counts_in_flight = counts_in_flight
        self._waiting = WaitingQueue()
        self._running: list[Sequence] = []  # by rank
        self._siblings: dict[str, list[Sequence]] = {}  # further choices, until the first has computed the prompt
        self._arrivals = itertools.count()
        self._why_waiting = WaitReason.BUDGET
        self._copies: list[BlockCopy] = []  # of the step that is being scheduled
        self.preemptions = 0
        self.prompt_tokens = 0
        self.prefix_queries = 0
        self.prefix_hits = 0

    @property
    def num_running(self) -> int:
        """Sequences that take part in steps."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences that do not yet, or not at the moment."""
        return sum(map(self.num_waiting_for, WaitReason))

    def num_waiting_for(self, reason: WaitReason) -> int:
        """Sequences that wait for this reason, as of the latest step."""
        if reason is WaitReason.PROMPT:
            return sum(map(len, self._siblings.values()))
        return len(self._waiting) if reason is self._why_waiting else 0

    def add(self, choices: Sequences[Sequence]) -> None:
        """Queue all choices of one request. The first computes the prompt, then the others share its blocks."""
        arrival = next(self._arrivals)
        for sequence in choices:
            sequence.arrival = arrival
        self._waiting.add(choices[0])
        if len(choices) > 1:
            self._siblings[choices[0].request.request_id] = list(choices[1:])

    def schedule(self) -> ScheduledBatch | None:
        """The next step, with blocks for all of its tokens; None when there is nothing to do."""
        self._why_waiting = WaitReason.BUDGET
        self._copies = []
        items = self._decodes()
        budget = self._pacer.tokens_for_prompts(sum(sequence.num_pending == 1 for sequence in self._running))
        prompts = deque(sequence for sequence in self._running if sequence.num_pending > 1)
        while budget:
            sequence = self._admit_before(prompts[0] if prompts else None)
            if sequence is None:
                if not prompts:
                    break
                sequence = prompts.popleft()
            share = _share(sequence, budget)
            items.append(share)
            budget -= share.num_tokens
        return ScheduledBatch(tuple(items), tuple(self._copies)) if items else None

    def _decodes(self) -> list[ScheduledSequence]:
        """Shares of the running sequences that want one token. The last in rank may have to make room for them."""
        items: list[ScheduledSequence] = []
        index = 0
        while index < len(self._running):  # it gets shorter, at its end, where room is made
            sequence = self._running[index]
            index += 1
            if sequence.num_pending == 1 and not self._awaits_token(sequence):
                if not self._make_room(sequence):
                    break
                items.append(_share(sequence, 1))
        return items

    def _awaits_token(self, sequence: Sequence) -> bool:
        return sequence.awaits_token(counts_in_flight=self._counts_in_flight)

    def launch(self, batch: ScheduledBatch) -> None:
        """The step has been submitted: the next one may count on what it computes."""
        for item in batch.items:
            item.sequence.num_computed = item.end
            item.sequence.num_in_flight += item.sample

    def advance(self, batch: ScheduledBatch, seconds: float = 0.0) -> None:
        """The step was computed: its tokens are in the cache. Call this before sampled tokens are appended.

        Args:
            batch: the step launched first of those under way; so all tokens it computed are known.
            seconds: how long it took; 0 if that was not measured.
        """
        if batch.num_tokens > len(batch.items):
            self._pacer.observe(batch.num_tokens, seconds)
        else:
            self._pacer.observe_decodes(seconds)
        for item in batch.items:
            if item.void:
                continue
            sequence = item.sequence
            self._blocks.index(sequence.token_ids, sequence.block_table, item.start, item.end)
            if item.end >= sequence.num_prompt:
                self._start_siblings(sequence)

    def withdraw(self, batch: ScheduledBatch) -> None:
        """The step could not be submitted, or has failed: nobody knows whether its copies were made.

        What they were to hold is computed again. Sequences that are given up must have been removed before.
        """
        targets = {copy.target for copy in batch.copies}
        for item in batch.items:
            number = item.start // self._blocks.block_size
            if not item.void and item.sequence.block_table[number] in targets:
                item.sequence.num_computed = number * self._blocks.block_size
                item.sequence.leave_steps()

    def retract(self, batch: ScheduledBatch) -> None:
        """The step, launched last of those under way, has failed or rests on one that has: it is to be computed again.

        Sequences that are given up must have been removed before.
        """
        for item in batch.items:
            if not item.void:
                item.sequence.num_computed = item.start
                item.sequence.num_in_flight -= item.sample
        self.withdraw(batch)

    def remove(self, sequence: Sequence) -> None:
        """Drop a sequence wherever it is (finished, aborted or failed) and free its blocks."""
        self._drop_computed(sequence)
        request_id = sequence.request.request_id
        siblings = self._siblings.get(request_id, [])
        for queue in (self._running, self._waiting, siblings):
            if sequence in queue:
                queue.remove(sequence)
        if not siblings:
            self._siblings.pop(request_id, None)

    def _reserve(self, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for the sequence to write its tokens to, up to so many; False if too few are free."""
        copies = self._blocks.reserve(sequence.block_table, sequence.num_computed, num_tokens)
        self._copies += copies or ()
        return copies is not None

    def _make_room(self, sequence: Sequence) -> bool:
        """Blocks for a running sequence's next token, at the cost of the last in rank; False if that is itself."""
        while not self._reserve(sequence, sequence.num_computed + 1):
            last = self._running[-1]
            if len(self._running) == 1:
                self._reclaim_waiting(sequence)
                return True
            self._preempt(last)
            if last is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's blocks; it keeps its known tokens and computes them again when its turn comes."""
        self._running.remove(sequence)
        self._waiting.add(sequence)
        self._drop_computed(sequence)
        self.preemptions += 1
        sequence.timeline.preemptions += 1

    def _reclaim_waiting(self, sequence: Sequence) -> None:
        """Blocks for the only sequence that could run, taken from waiting choices which hold their prompt's.

        Raises:
            CapacityError: the sequence does not even fit the empty cache, so it must not have been added.
        """
        for each in self._waiting:
            if each is not sequence:
                self._drop_computed(each)
        if not self._reserve(sequence, sequence.num_tokens):
            raise CapacityError(
                f"A sequence of {sequence.num_tokens} tokens does not fit the KV cache of "
                f"{self._blocks.num_blocks * self._blocks.block_size} tokens. Enlarge kv_cache_tokens."
            )

    def _drop_computed(self, sequence: Sequence) -> None:
        """Take a sequence's blocks. Steps under way may still write to them, but before any step of a new owner."""
        self._blocks.free(sequence.block_table)
        sequence.num_computed = 0
        sequence.leave_steps()

    def _admit_before(self, rival: Sequence | None) -> Sequence | None:
        """Admit the first waiting sequence, with blocks for all tokens it knows; None if it must wait.

        Args:
            rival: a running one that wants tokens too; a waiting one that ranks after it is not considered.
        """
        sequence = self._waiting.first
        if sequence is None or (rival is not None and rival.rank < sequence.rank):
            return None
        if len(self._running) >= self._max_running:
            self._why_waiting = WaitReason.BATCH
            return None
        if not self._give_blocks(sequence):
            self._why_waiting = WaitReason.CACHE
            return None
        self._waiting.remove(sequence)
        bisect.insort(self._running, sequence, key=lambda each: each.rank)
        if not sequence.admitted:
            self._count_admission(sequence)
        return sequence

    def _give_blocks(self, sequence: Sequence) -> bool:
        """Blocks for all tokens of a waiting sequence, those of a cached prefix first; False if too few are free."""
        holds_prompt = bool(sequence.block_table)
        if not holds_prompt:
            sequence.block_table = self._blocks.take_prefix(sequence.reusable)
            sequence.num_computed = len(sequence.block_table) * self._blocks.block_size
        if not self._reserve(sequence, sequence.num_tokens):
            if self._running:
                if not holds_prompt:
                    self._drop_computed(sequence)
                return False
            self._reclaim_waiting(sequence)
        return True

    def _count_admission(self, sequence: Sequence) -> None:
        sequence.admitted = True
        sequence.cached_tokens = sequence.num_computed
        self.prompt_tokens += sequence.num_prompt
        if self._blocks.prefix_caching and len(sequence.reusable) >= sequence.num_prompt:
            self.prefix_queries += sequence.num_prompt
            self.prefix_hits += sequence.cached_tokens

    def _start_siblings(self, first: Sequence) -> None:
        """Queue the other choices, with the prompt's blocks shared. Each computes its last token again, to sample."""
        for sibling in self._siblings.pop(first.request.request_id, []):
            sibling.block_table = self._blocks.fork(first.block_table, first.num_prompt - 1)
            sibling.num_computed = first.num_prompt - 1
            sibling.cached_tokens = first.cached_tokens
            sibling.admitted = True
            self._waiting.add(sibling)


def _share(sequence: Sequence, budget: int) -> ScheduledSequence:
    count = min(sequence.num_pending, budget)
    start, unread = sequence.num_computed, sequence.unread
    return ScheduledSequence(
        sequence,
        start,
        count,
        sample=count == sequence.num_pending and sequence.samples,
        in_flight=start >= len(sequence.token_ids),
        epoch=sequence.epoch,
        reads=range(max(start, unread.start), min(start + count, unread.stop)),
    )
