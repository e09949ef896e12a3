"""Memory for the input and the results of steps, taken once.

on the device:   results | input of the step      a token that only the device knows is read from the results
on the host:     results, input, counted tokens   twice, so that one step is written while another is under way
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from engine.execution.packed import Field, PackedLayout
from engine.ops.step_device import StepDevice, StepEvent

SETS = 2
UINT8, INT32 = np.dtype(np.uint8), np.dtype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class HostSet:
    """What one step under way has on the host.

    Attributes:
        input: uint8; the host writes it and the device reads it.
        records: uint8 [rows + reads, bytes]; the device writes them.
        states: [tokens, H] hidden states; the device writes them.
        finished: after this the host may write the one and read the other.
        counts: int16 [V] each; as many as a step has ever brought sequences with penalties into their slots.
    """

    input: torch.Tensor
    records: torch.Tensor
    states: torch.Tensor
    finished: StepEvent
    counts: list[torch.Tensor] = field(default_factory=list)


class StepBuffers:
    """The buffers.

    Args:
        device: where steps are computed.
        rows: most rows of logits from which a step samples.
        reads: most rows of logits that are only read.
        record_bytes: what sampling says of one row.
        input_bytes: what the largest step's input takes.
        states: like the most hidden states that are read from a step, [tokens, H].

    Attributes:
        words: int32, all of the device's buffer.
        tokens: int32 [rows], its front: the tokens sampled last.
        records: uint8 [rows, record_bytes]: what else sampling says of them.
        read_tokens: int32 [reads]: the tokens that were read.
        read_records: uint8 [reads, record_bytes]: what sampling says of these.
        input: uint8, the rest.
        first_word: where in `words` the input begins.
    """

    def __init__(
        self, device: StepDevice, rows: int, reads: int, record_bytes: int, input_bytes: int, states: torch.Tensor
    ) -> None:
        self._device = device
        self._rows, most = rows, rows + reads
        results = PackedLayout({"tokens": Field((most,), INT32), "records": Field((most, record_bytes), UINT8)})
        buffer = torch.zeros(results.nbytes + input_bytes, dtype=torch.uint8, device=device.device)
        self.words = buffer.view(torch.int32)
        views = results.tensors(buffer[: results.nbytes])
        self.tokens, self.read_tokens = views["tokens"][:rows], views["tokens"][rows:]
        self.records, self.read_records = views["records"][:rows], views["records"][rows:]
        self.input = buffer[results.nbytes :]
        self.first_word = results.nbytes // INT32.itemsize
        self._sets = [
            HostSet(
                input=device.host_buffer(input_bytes),
                records=device.host_buffer(most * record_bytes).view(most, record_bytes),
                states=device.host_buffer(states.nbytes).view(states.dtype).view(states.shape),
                finished=device.event(),
            )
            for _ in range(SETS)
        ]
        self._turn = 0

    @property
    def nbytes(self) -> int:
        """Memory of the device's buffer."""
        return self.words.nbytes

    def take(self) -> HostSet:
        """The host's buffers for the next step. The step that had them last must have been collected, or given up."""
        taken = self._sets[self._turn]
        self._turn = (self._turn + 1) % SETS
        taken.finished.wait()  # only after a failure is there anything to wait for
        return taken

    def hold_counts(self, host: HostSet, index: int, counts: npt.NDArray[np.uint16]) -> torch.Tensor:
        """Put counts where the device reads them: int16 [V], the first, second … of a step.

        The memory is taken when a step first needs so many, at start-up, and kept: to take it may wait for the device.
        """
        if index == len(host.counts):
            host.counts.append(self._device.host_buffer(counts.nbytes).view(torch.int16))
        held = host.counts[index]
        held.numpy()[:] = counts.view(np.int16)
        return held

    def upload(self, host: HostSet, nbytes: int) -> None:
        """Copy the first bytes of a step's input to the device."""
        self._device.copy(host.input[:nbytes], self.input[:nbytes])

    def download(self, host: HostSet, rows: int, reads: int, states: torch.Tensor | None) -> None:
        """Copy the records of so many rows, and hidden states, to the host."""
        if rows:
            self._device.copy(self.records[:rows], host.records[:rows])
        if reads:
            self._device.copy(self.read_records[:reads], host.records[self._rows : self._rows + reads])
        if states is not None:
            self._device.copy(states, host.states[: states.shape[0]])
