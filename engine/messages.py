"""What crosses the boundary between the client side and the engine process, in both directions.

The transport (`engine/transport.py`) is a socket pair that only parent and child hold; messages are plain data.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.config import EngineConfig
from engine.stats import EngineStats
from engine.types import GenerationRequest, ModelInfo, OutputDelta


class AddRequest(NamedTuple):
    """Queue a request."""

    request: GenerationRequest
    sent_at: float  # seconds by `time.monotonic`, which counts from the start of the machine for both processes


class AbortRequest(NamedTuple):
    """Drop a request wherever it is; unknown and finished ids are ignored."""

    request_id: str


class Ping(NamedTuple):
    """Answer with a `StepOutput`, empty if there is nothing to compute: shows that the step loop goes round."""


class Shutdown(NamedTuple):
    """End the process after the current step."""


class Prepare(NamedTuple):
    """The first message to a process: which model to load. `room_to_come` is as in `LoadReport`."""

    config: EngineConfig
    room_to_come: int = 0


class Load(NamedTuple):
    """Go on with loading, after `ModelChecked`."""


class LoadProgress(NamedTuple):
    """How far loading is; sent only when it has got further.

    `stage` is the part: `start` (of the process), `checks`, `weights` (counted in bytes of the files), `cache`,
    `warm-up`. `done` of `total`; both are 0 where nothing can be counted.
    """

    stage: str
    done: int = 0
    total: int = 0


class ModelChecked(NamedTuple):
    """All that can be known without loading is in order; the process waits for `Load`."""


class EngineReady(NamedTuple):
    """The model is loaded; requests are taken from now on."""

    model: ModelInfo


class EngineFailed(NamedTuple):
    """The engine cannot start or cannot go on; the process ends after this.

    `kind` is the class name of the error in `engine/errors.py`, so that the parent raises the same one.
    """

    kind: str
    message: str


class RequestFailed(NamedTuple):
    """One request failed; the others go on. `kind` as in `EngineFailed`."""

    request_id: str
    kind: str
    message: str


class StepOutput(NamedTuple):
    """Everything one step produced, for all requests."""

    deltas: tuple[OutputDelta, ...]
    failures: tuple[RequestFailed, ...]
    stats: EngineStats


Command = AddRequest | AbortRequest | Ping | Shutdown | Prepare | Load
Event = LoadProgress | ModelChecked | EngineReady | EngineFailed | StepOutput
