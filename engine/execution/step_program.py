"""What a device does for a step of one size, from fetching its tokens to choosing the next; and writing its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from engine.cache.paged_kv_cache import PagedKVCache
from engine.execution.paged_attention import PagedAttention
from engine.execution.step_arrays import StepArrays
from engine.execution.step_buffers import HostSet, StepBuffers
from engine.execution.step_input import StepSize, StepWriter, attention_batch
from engine.model.forward_batch import ForwardBatch
from engine.model.transformer import Transformer
from engine.ops.step_device import StepDevice, StepGraph
from engine.sampling.device_layout import ASKED_BYTES, describe_asked
from engine.sampling.device_sampler import DeviceSampler
from engine.sampling.prompt_tokens import asked_tokens
from engine.scheduling.batch import ScheduledBatch
from engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class WrittenStep:
    """A step whose input is written.

    Attributes:
        nbytes: of the input, counted from its beginning.
        copies: blocks of the cache to be copied.
        counts: slots that have to be filled for sampling, each with what is to stand there, int16 [V] on the host.
    """

    nbytes: int
    copies: int
    counts: tuple[tuple[int, torch.Tensor], ...]


class StepParts:
    """What all programs of a model share.

    Args:
        model: computes logits.
        cache: holds keys and values.
        sampler: chooses tokens.
        buffers: memory of the steps.
        largest: bounds of every step.
    """

    def __init__(
        self,
        model: Transformer,
        cache: PagedKVCache,
        sampler: DeviceSampler,
        buffers: StepBuffers,
        largest: StepSize,
    ) -> None:
        self.model = model
        self.cache = cache
        self.sampler = sampler
        self.buffers = buffers
        self.copied = torch.empty(
            largest.copies, *cache.keys(0).shape[1:], dtype=cache.format.dtype, device=cache.device
        )
        self.token_ids = torch.zeros(largest.tokens, dtype=torch.int32, device=cache.device)
        self.most_rows = largest.rows
        self.writer = StepWriter(buffers.first_word, model.config.vocab_size)

    @property
    def nbytes(self) -> int:
        """Memory of what is its own: room for copied blocks, and tokens."""
        return self.copied.nbytes + self.token_ids.nbytes


class StepProgram:
    """The program of one size. Everything it reads and writes has a fixed place, so that it can be recorded.

    Attributes:
        size: of the steps.
        states: hidden states that were read, [P, H], once it has been started; None where it reads none.
    """

    def __init__(self, parts: StepParts, size: StepSize) -> None:
        self._parts = parts
        self.size = size
        self._layout = size.layout()
        tensors = self._layout.tensors(parts.buffers.input)
        self._token_ids = parts.token_ids[: size.tokens]
        self._token_places = tensors["token_places"]
        self._forward = ForwardBatch(self._token_ids, tensors["positions"], tensors["logit_rows"])
        self._attention = PagedAttention(parts.cache, parts.model.backend, attention_batch(tensors))
        self._copies = tensors["copy_sources"], tensors["copy_targets"]
        self._sampling = tensors["sampling"]
        self._state_rows = tensors["state_rows"]
        self.states: torch.Tensor | None = None
        self._read_rows, self._asked = tensors["read_rows"], tensors["asked"]
        self._tokens = parts.buffers.tokens[: size.rows]
        self._records = parts.buffers.records[: size.rows]
        self._graph: StepGraph | None = None
        self._arrays: dict[HostSet, dict[str, npt.NDArray[Any]]] = {}

    def write(
        self, host: HostSet, batch: ScheduledBatch, step: StepArrays, sampled: Mapping[Sequence, int]
    ) -> WrittenStep:
        """Write a step's input on the host; arguments as of `StepWriter.write`.

        Raises:
            KernelArgumentError: a token does not exist, or a request asks more of sampling than there is room for.
        """
        arrays = self._arrays.get(host)
        if arrays is None:
            arrays = self._arrays[host] = self._layout.arrays(host.input.numpy())
        self._parts.writer.write(arrays, self._layout, batch, step, sampled)
        asked = asked_tokens(batch)
        for part in self._read_parts():
            arrays["asked"][_bytes_of(part)] = describe_asked(asked[part])
        sequences = [item.sequence for item in batch.items if item.sample]
        sampling = self._parts.sampler.parameters(sequences, self.size.rows)
        arrays["sampling"][: len(sampling.data)] = sampling.data
        counts = tuple(
            (each.slot, self._parts.buffers.hold_counts(host, index, each.counts))
            for index, each in enumerate(sampling.counts)
        )
        return WrittenStep(self._layout.offsets["sampling"] + len(sampling.data), len(batch.copies), counts)

    def prepare(self, step: WrittenStep) -> None:
        """Give the device what only some steps ask for: copied blocks, and the tokens of sequences with penalties."""
        if step.copies:
            sources, targets = (each[: step.copies] for each in self._copies)
            self._parts.cache.copy_listed(sources, targets, self._parts.copied)
        for slot, counts in step.counts:
            self._parts.sampler.load_counts(slot, counts)

    def start(self) -> None:
        """Give the device the rest."""
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()

    def capture(self, device: StepDevice) -> None:
        """Record what `start` does from now on. It must have been started before."""
        self._graph = device.capture(self._run)

    def _run(self) -> None:
        """Compute keys, values and logits, and choose tokens, which are then in the results, and read prompts."""
        parts = self._parts
        torch.index_select(parts.buffers.words, 0, self._token_places, out=self._token_ids)
        logits = parts.model.compute(self._forward, self._attention)
        if self.size.rows:
            parts.sampler.sample(logits, self._sampling, self._tokens, self._records)
        for part in self._read_parts():
            tokens, records = parts.buffers.read_tokens[part], parts.buffers.read_records[part]
            logits = parts.model.logits_at(self._read_rows[part])
            parts.sampler.sample(logits, self._asked[_bytes_of(part)], tokens, records)
        if self.size.states:
            self.states = parts.model.states_at(self._state_rows)

    def _read_parts(self) -> Iterator[slice]:
        """As many rows at a time as there is room for logits and for sampling."""
        for start in range(0, self.size.reads, self._parts.most_rows):
            yield slice(start, min(start + self._parts.most_rows, self.size.reads))


def _bytes_of(part: slice) -> slice:
    """Where it stands which tokens these rows are asked for."""
    return slice(part.start * ASKED_BYTES, part.stop * ASKED_BYTES)
