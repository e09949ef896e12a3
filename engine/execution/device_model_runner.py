"""Runs steps on a device that computes while the host goes on: one copy there, one copy back, no waiting in between."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

import torch

from engine.cache.block import BlockCopy
from engine.cache.paged_kv_cache import PagedKVCache
from engine.config import EngineConfig
from engine.execution.block_tables import BlockTables
from engine.execution.device_errors import naming_device_errors
from engine.execution.recorded_steps import decode_sizes, recordings_bytes
from engine.execution.step_arrays import StepArrays
from engine.execution.step_buffers import HostSet, StepBuffers
from engine.execution.step_input import StepSize
from engine.execution.step_program import StepParts, StepProgram
from engine.execution.warm_up import largest_step
from engine.model.loader import LoadedModel
from engine.ops.step_device import StepDevice
from engine.sampling.device_layout import RECORD
from engine.sampling.device_sampler import DeviceSampler
from engine.sampling.prompt_tokens import AskedToken, as_readings, asked_tokens
from engine.scheduling.batch import ScheduledBatch, StepOutcome
from engine.scheduling.sequence import Sequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepHandle:
    """A step that has been submitted.

    Attributes:
        host: where what it sampled will be told.
        sequences: of each item of the batch; None where it does not sample.
        batch: the step; only what never changes of it is looked at.
        asked: tokens of prompts that it reads.
    """

    host: HostSet
    sequences: tuple[Sequence | None, ...]
    batch: ScheduledBatch
    asked: Seq[AskedToken]


class DeviceModelRunner:
    """An `engine.scheduling.runner.Runner` whose steps are computed and sampled by a device on its own.

    `submit` writes a step's input, gives the device its work and returns. At most one step may be submitted before the
    one before it is collected. Steps in which every sequence computes one token and samples are filled up to a size
    there is a program for; with graphs, one call starts all of it.

    Args:
        loaded: the model and the backend it runs on.
        cache: where keys and values are kept.
        config: bounds of a step.
        sampler: chooses tokens on the device.
        device: where the backend computes.
        graphs: whether to record the steps that recur.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        cache: PagedKVCache,
        config: EngineConfig,
        sampler: DeviceSampler,
        device: StepDevice,
        *,
        graphs: bool = True,
    ) -> None:
        self._cache = cache
        self._device = device
        self._layers = loaded.config.num_layers
        self._graphs = graphs
        max_len = config.max_model_len or loaded.config.max_position_embeddings
        most_rows = min(config.max_num_seqs, config.max_num_batched_tokens)
        self._largest = StepSize(
            tokens=config.max_num_batched_tokens,
            sequences=most_rows,
            rows=most_rows,
            table_width=min(cache.num_blocks, -(-max_len // cache.block_size)),
            copies=most_rows,
            sampling_bytes=sampler.input_bytes(most_rows),
            reads=config.max_num_batched_tokens,
            states=config.max_num_batched_tokens,
        )
        self._max_len = max_len
        self._sampler = sampler
        self._buffers = StepBuffers(
            device,
            most_rows,
            self._largest.reads,
            RECORD.itemsize,
            self._largest.layout().nbytes,
            states=torch.empty(
                self._largest.states,
                loaded.config.hidden_size,
                dtype=loaded.model.backend.activation_dtype,
                device="meta",
            ),
        )
        self._parts = StepParts(loaded.model, cache, sampler, self._buffers, self._largest)
        self._decodes = {
            size: StepProgram(self._parts, self._size(size, size, size, self._largest.table_width))
            for size in decode_sizes(most_rows)
        }
        self._tables = BlockTables(cache.block_size)
        self._sampled: dict[Sequence, int] = {}  # rows of what the step submitted last samples

    @property
    def pipeline_depth(self) -> int:
        """Steps worth submitting beside the one that is waited for."""
        return 1

    @property
    def counts_in_flight(self) -> bool:
        """Whether penalties take tokens into account that the host does not know yet."""
        return True

    @property
    def max_biased_tokens(self) -> int:
        """As of `ModelInfo`; so is the next."""
        return self._sampler.max_biased_tokens

    @property
    def max_stop_tokens(self) -> int:
        return self._sampler.max_stop_tokens

    def submit(self, batch: ScheduledBatch) -> StepHandle:
        """Give a step to the device.

        Raises:
            KernelArgumentError: a token does not exist, or a request asks more of sampling than there is room for.
            DeviceError: the device is lost.
        """
        sequences = tuple(item.sequence if item.sample else None for item in batch.items)
        with naming_device_errors():
            host = self._give(self._program(batch), batch)
        sampling = (sequence for sequence in sequences if sequence is not None)
        self._sampled = {sequence: row for row, sequence in enumerate(sampling)}
        return StepHandle(host, sequences, batch, asked_tokens(batch))

    def collect(self, handle: StepHandle) -> StepOutcome:
        """Wait until the device is done with a step.

        Raises:
            InvalidLogitsError: requests whose logits are unusable.
            DeviceError: the device is lost.
        """
        with naming_device_errors():
            handle.host.finished.wait()
        sequences = [sequence for sequence in handle.sequences if sequence is not None]
        records = handle.host.records.numpy()
        sampled = iter(self._sampler.results(records, sequences))
        scored = self._sampler.scores(records[self._largest.rows :], handle.asked)
        pooled = sum(len(item.pooled) for item in handle.batch.items)
        states = handle.host.states[:pooled].float().numpy()
        tokens = [None if sequence is None else next(sampled) for sequence in handle.sequences]
        return StepOutcome(tokens, as_readings(handle.batch, scored, states))

    def warm_up(self) -> None:
        """Make the largest step there can be, then one of each size that recurs, and record these, largest first.

        So whatever is made on first use exists before the first request, and recordings share what they use. Keys and
        values are left in blocks that nobody owns yet. What the recordings take is logged, as a warning if it is more
        than was kept for them.
        """
        with naming_device_errors():
            self._device.settle()
            self._try(None, self._largest.tokens, self._largest.rows)
            before = self._device.free_bytes()
            for size, program in sorted(self._decodes.items(), reverse=True):
                self._try(program, size, size)
                if self._graphs:
                    with self._device.computing():
                        program.capture(self._device)
                    self._try(program, size, size)
            if self._graphs:
                self._tell_of_recordings(before - self._device.free_bytes())

    @property
    def nbytes(self) -> int:
        """Device memory it holds besides the model, the cache and recorded steps."""
        return self._buffers.nbytes + self._parts.nbytes + self._sampler.nbytes

    def _tell_of_recordings(self, taken: int) -> None:
        kept = recordings_bytes(self._layers, self._largest.rows)
        logger.log(
            logging.INFO if taken <= kept else logging.WARNING,
            "Recording %d sizes of steps took %.0f MiB of the device; %.0f MiB were kept for it.",
            len(self._decodes),
            taken / 2**20,
            kept / 2**20,
        )

    def _try(self, program: StepProgram | None, tokens: int, sequences: int) -> None:
        """Make up a step as large as may be, and wait until it is done. What it samples means nothing."""
        cache = self._cache
        step = largest_step(tokens, sequences, self._max_len, cache.num_blocks, cache.block_size)
        batch = replace(step, copies=(BlockCopy(0, 0),))  # onto itself, to load what copies blocks
        self._give(program or self._program(batch), batch).finished.wait()

    def _give(self, program: StepProgram, batch: ScheduledBatch) -> HostSet:
        host = self._buffers.take()
        step = StepArrays.of(batch, self._cache.block_size, self._tables)
        written = program.write(host, batch, step, self._sampled)
        with self._device.computing():
            try:
                self._buffers.upload(host, written.nbytes)
                program.prepare(written)
                program.start()
                self._buffers.download(host, len(step.logit_rows), len(step.read_rows), program.states)
            finally:
                host.finished.record()  # a step that gets no further has been given its input all the same
        return host

    def _program(self, batch: ScheduledBatch) -> StepProgram:
        items = batch.items
        if all(item.sample and item.num_tokens == 1 for item in items):
            # a prompt is read before its last token, and such steps compute last tokens alone
            return self._decodes[next(size for size in self._decodes if size >= len(items))]
        width = max(-(-item.end // self._cache.block_size) for item in items)
        rows = sum(item.sample for item in items)
        reads = sum(len(item.scored) for item in items)
        states = sum(len(item.pooled) for item in items)
        size = self._size(batch.num_tokens, len(items), rows, width)
        return StepProgram(self._parts, replace(size, reads=reads, states=states))

    def _size(self, tokens: int, sequences: int, rows: int, table_width: int) -> StepSize:
        copies, sampling_bytes = self._largest.copies, self._sampler.input_bytes(rows)
        return StepSize(tokens, sequences, rows, table_width, copies, sampling_bytes, reads=0, states=0)
