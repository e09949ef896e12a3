"""From the hidden states of a prompt, as they are computed, to its vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.pooling import PoolingParams


class Pooler:
    """Adds states up one by one in the order of positions, so that the result does not depend on how they are cut.

    Args:
        params: which features count.
    """

    def __init__(self, params: PoolingParams) -> None:
        self._dimensions = params.dimensions
        self._sum: npt.NDArray[np.float64] | None = None

    def add(self, states: npt.NDArray[np.float32]) -> None:
        """Take in the next states, [R, H]."""
        for state in states:
            wide = state.astype(np.float64)
            self._sum = wide if self._sum is None else self._sum + wide

    def vector(self) -> bytes:
        """The direction of the mean, scaled to length 1: float32, little-endian. Zeros, which have none, stay."""
        if self._sum is None:
            return b""
        kept = self._sum[: self._dimensions]
        length = float(np.sqrt(np.square(kept).sum()))
        return (kept / (length or 1.0)).astype("<f4").tobytes()
