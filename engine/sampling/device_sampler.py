"""Choosing tokens on the device, in two parts with nothing to wait for in between.

    inputs = sampler.parameters(sequences, rows)     host only: what the step's rows want, as bytes to be uploaded
    sampler.load_counts(slot, counts)                rarely: tokens seen by a sequence that is new to a slot
    sampler.sample(logits, uploaded, tokens, records)   device only: may be captured into a CUDA graph and replayed
    sampler.results(downloaded, sequences)           host only: what was chosen

`engine/sampling/sampler.py` does all of it on the host and is the reference: the device gives the tokens that it gives,
but where rounding decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from engine.errors import InvalidLogitsError, KernelArgumentError
from engine.ops.cuda_runtime import Runtime
from engine.ops.cuda_sampling import LARGEST_VOCABULARY, SamplingKernels
from engine.sampling.batch import forbids_ending
from engine.sampling.count_slots import CountSlots
from engine.sampling.device_layout import (
    DRAWN,
    GREEDY,
    MOST_BIASES,
    MOST_FORBIDDEN,
    NONE,
    NOTHING_LEFT,
    RECORD,
    ROW,
    Bytes,
    Words,
    as_fraction,
    as_temperature,
    count_tokens,
    mask_words,
    most_bytes,
)
from engine.sampling.logprobs import FLOOR
from engine.sampling.processors import nothing_allowed
from engine.sampling.prompt_tokens import AskedToken
from engine.scheduling.batch import SampledToken
from engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """What a slot of the table of counts has to hold before the step.

    Attributes:
        slot: its index.
        counts: uint16 [V], as `count_tokens` gives them.
    """

    slot: int
    counts: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class SamplingInputs:
    """What a step's rows want.

    Attributes:
        data: uint8, to be uploaded as it is, to the front of the buffer that `sample` is given; its length changes from
            step to step and is at most `DeviceSampler.input_bytes`.
        counts: for `load_counts`; none for most steps.
    """

    data: Bytes
    counts: tuple[SlotCounts, ...]


class DeviceSampler:
    """Chooses the next token of each row on the device.

    Args:
        runtime: the device.
        vocab_size: logits of a row.
        max_rows: most rows of a step. Memory for so many is taken at once, and none later.
        end_token_ids: the model's own end tokens, which `min_tokens` forbids for a while.

    Raises:
        KernelArgumentError: the vocabulary is larger than the kernels can count.
    """

    def __init__(self, runtime: Runtime, vocab_size: int, max_rows: int, end_token_ids: Seq[int] = ()) -> None:
        self._kernels = SamplingKernels(runtime, vocab_size, max_rows)
        self._vocab_size = vocab_size
        self._end_token_ids = tuple(end_token_ids)
        self._slots = CountSlots(max_rows)

    @property
    def nbytes(self) -> int:
        """Device memory it holds: `engine.ops.cuda_sampling.held_bytes` of vocabulary and rows."""
        return self._kernels.nbytes

    @property
    def max_biased_tokens(self) -> int:
        """As of `ModelInfo`; so is the next."""
        return MOST_BIASES

    @property
    def max_stop_tokens(self) -> int:
        return MOST_FORBIDDEN - len(self._end_token_ids)

    def input_bytes(self, rows: int) -> int:
        """Bytes of the device buffer of inputs for a bucket of so many rows."""
        return most_bytes(rows, self._vocab_size)

    def parameters(self, sequences: Seq[Sequence], rows: int | None = None) -> SamplingInputs:
        """Describe the rows of a step; the order of calls is the order in which the steps are to run.

        Args:
            sequences: the sequence of each row. The token to be chosen stands at position `num_tokens`; tokens in
                flight need not be known.
            rows: of the bucket; those after the last sequence are left alone. None for as many as sequences.

        Raises:
            ConstraintError: a sequence's constraint cannot tell any more.
            KernelArgumentError: a request has more biased or stop tokens than `ModelInfo` says it may have.
        """
        self._require_room(sequences)
        table = np.zeros(len(sequences) if rows is None else rows, ROW)
        lists = _Lists(table.nbytes // 4)
        counts: list[SlotCounts] = []
        wishes = [self._row(sequence, lists, counts) for sequence in sequences]
        table[: len(wishes)] = np.array(wishes, ROW)
        return SamplingInputs(lists.after(table.view(np.uint8)), tuple(counts))

    def load_counts(self, slot: int, counts: torch.Tensor) -> None:
        """Bring the counts of a sequence that is new to a slot onto the device, on the current stream.

        To be called for each `SamplingInputs.counts` before `sample` of the same step, outside of any captured graph.

        Args:
            slot: its index.
            counts: the bits of `SlotCounts.counts` as int16 [V], on the host. Where it is pinned nobody waits for the
                copy, and it must not change before that is done.
        """
        self._kernels.load_counts(slot, counts)

    def sample(self, logits: torch.Tensor, inputs: torch.Tensor, tokens: torch.Tensor, records: torch.Tensor) -> None:
        """Choose a token for each row, on the current stream; allocates nothing and waits for nothing.

        Which rows are used, and everything they want, is read from `inputs` on the device: a captured call serves any
        step of as many rows.

        Args:
            logits: float32 [L, V]; not changed.
            inputs: uint8 on the device, `input_bytes(L)` of them, aligned to 8 bytes; `SamplingInputs.data` leads.
            tokens: int32 [L] on the device: the chosen tokens; those of unused rows are left as they are.
            records: uint8 [L, RECORD.itemsize] on the device: what `results` wants to see.

        Raises:
            KernelArgumentError: a tensor is not what it should be.
            DeviceError: the device reports an error.
        """
        self._kernels.sample(logits, inputs, tokens, records)

    def results(self, records: Bytes, sequences: Seq[Sequence]) -> list[SampledToken]:
        """What was chosen.

        Args:
            records: uint8 [at least S, RECORD.itemsize], copied back from the device.
            sequences: as given to `parameters`.

        Returns:
            S tokens; with log-probabilities of the unchanged logits where the request asks for them.

        Raises:
            InvalidLogitsError: rows contain NaN or infinity, or nothing but forbidden tokens; it names their requests.
            ConstraintError: a request's constraint leaves no token.
        """
        found = records[: len(sequences)].reshape(-1).view(RECORD)
        _check_rows(found["broken"], sequences)
        tokens = found["token"].tolist()
        sampled = [SampledToken(token, None, ()) for token in tokens]
        for row, sequence in enumerate(sequences):
            if sequence.sampling.logprobs is not None:
                sampled[row] = _with_logprobs(tokens[row], found[row], sequence.sampling.logprobs)
        return sampled

    def scores(self, records: Bytes, asked: Seq[AskedToken]) -> list[SampledToken]:
        """What the device says of given tokens, for which `describe_asked` has asked.

        Args:
            records: uint8 [at least R, RECORD.itemsize], copied back from the device.
            asked: R tokens.

        Raises:
            InvalidLogitsError: rows contain NaN or infinity; it names their requests.
        """
        found = records[: len(asked)].reshape(-1).view(RECORD)
        broken = [asked[row].request_id for row in np.flatnonzero(found["broken"]).tolist()]
        if broken:
            raise InvalidLogitsError(tuple(dict.fromkeys(broken)))
        return [_scored(each, found[row]) for row, each in enumerate(asked)]

    def _row(self, sequence: Sequence, lists: _Lists, counts: list[SlotCounts]) -> tuple[float, ...]:
        """The fields of a ROW, in their order; what it points to goes to `lists` and `counts`."""
        params = sequence.sampling
        constraint = sequence.constraint if sequence.constrained else None
        ends = (*self._end_token_ids, *params.stop_token_ids) if forbids_ending(sequence) else ()
        return (
            sequence.seed % 2**64,
            as_fraction(params.top_p),
            GREEDY if params.greedy else DRAWN,
            sequence.choice,
            sequence.num_tokens,
            as_temperature(params.temperature),
            min(max(params.top_k, 0), LARGEST_VOCABULARY),
            params.min_p,
            params.repetition_penalty,
            params.frequency_penalty,
            params.presence_penalty,
            self._slot(sequence, counts) if params.has_penalties else NONE,
            lists.add(_bias_words(params.logit_bias)) if params.logit_bias else NONE,
            len(params.logit_bias),
            lists.add(np.array(ends, np.uint32)) if ends else NONE,
            len(ends),
            NONE if constraint is None else lists.add(constraint.mask()[: mask_words(self._vocab_size)]),
            NONE if params.logprobs is None else params.logprobs,
        )

    def _slot(self, sequence: Sequence, counts: list[SlotCounts]) -> int:
        slot, stale = self._slots.take(sequence)
        if stale:
            known = count_tokens(sequence.token_ids, sequence.num_prompt, self._vocab_size)
            counts.append(SlotCounts(slot, known))
        return slot

    def _require_room(self, sequences: Seq[Sequence]) -> None:
        """What admission has seen to; beyond it, rows would write over each other's lists."""
        for each in sequences:
            params = each.sampling
            biased, stopping = len(params.logit_bias), len(params.stop_token_ids)
            if biased > self.max_biased_tokens or stopping > self.max_stop_tokens:
                name = each.request.request_id
                raise KernelArgumentError(f"There is no room for all biased or stop tokens of the request '{name}'.")


class _Lists:
    """Lists that rows point to, one after the other, from a given word on."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._parts: list[Words] = []

    def add(self, words: Words) -> int:
        """Keep a list; returns the number of its first word."""
        first = self._next
        self._parts.append(words)
        self._next += len(words)
        return first

    def after(self, table: Bytes) -> Bytes:
        """The table and all lists as bytes."""
        return np.concatenate([table, *(part.view(np.uint8) for part in self._parts)]) if self._parts else table


def _bias_words(bias: Mapping[int, float]) -> Words:
    """Pairs of a token and the bits of its bias."""
    pairs = np.empty((len(bias), 2), np.uint32)
    pairs[:, 0] = np.fromiter(bias, np.uint32)
    pairs[:, 1] = np.fromiter(bias.values(), np.float32).view(np.uint32)
    return pairs.reshape(-1)


def _with_logprobs(token: int, record: np.void, count: int) -> SampledToken:
    top = zip(record["top_tokens"][:count].tolist(), record["top_logprobs"][:count].tolist(), strict=True)
    reported = sorted((each for each in top if each[0] != NONE), key=lambda entry: (-entry[1], entry[0]))
    return SampledToken(token, float(record["logprob"]), tuple(reported))


def _scored(asked: AskedToken, record: np.void) -> SampledToken:
    scored = _with_logprobs(asked.token_id, record, asked.alternatives)
    # no bias makes up for a logit of minus infinity; then another token was taken
    return scored if record["token"] == asked.token_id else scored._replace(logprob=FLOOR)


def _check_rows(broken: npt.NDArray[np.int32], sequences: Seq[Sequence]) -> None:
    """Fail as `Sampler.sample` does."""
    faults = [(int(broken[row]), sequences[row]) for row in np.flatnonzero(broken).tolist()]
    stuck = [sequence for fault, sequence in faults if fault == NOTHING_LEFT and sequence.constraint is not None]
    if stuck:
        raise nothing_allowed(_request_ids(stuck))
    if faults:
        raise InvalidLogitsError(_request_ids([sequence for _, sequence in faults]))


def _request_ids(sequences: Seq[Sequence]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.request.request_id for each in sequences))
