"""Watching what goes into a model's matrices, and what comes out of them, while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.model.linear import Linear
from engine.ops.backend import LinearKernel


class InputCatcher:
    """A kernel that keeps its latest inputs and answers with zeros: what follows is of no interest."""

    def __init__(self, kernel: LinearKernel) -> None:
        self._kernel = kernel
        self.inputs = torch.empty(0)

    @property
    def in_features(self) -> int:
        return self._kernel.in_features

    @property
    def out_features(self) -> int:
        return self._kernel.out_features

    @property
    def nbytes(self) -> int:
        return self._kernel.nbytes

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x is copied because the model reuses its memory."""
        self.inputs = x.clone()
        out.zero_()


class Tap:
    """A kernel that keeps its latest inputs and outputs, the outputs where autograd finds them."""

    def __init__(self, kernel: LinearKernel) -> None:
        self._kernel = kernel
        self.inputs = torch.empty(0)
        self.outputs = torch.empty(0)

    @property
    def in_features(self) -> int:
        return self._kernel.in_features

    @property
    def out_features(self) -> int:
        return self._kernel.out_features

    @property
    def nbytes(self) -> int:
        return self._kernel.nbytes

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """The model overwrites both x and out later."""
        self.inputs, self.outputs = x.detach().clone(), torch.empty_like(out)
        self._kernel(x, self.outputs)
        out.copy_(self.outputs)


@contextmanager
def tapping(linear: Linear) -> Iterator[Tap]:
    """Keep what goes into `linear` and comes out of it while the context is open."""
    tap = Tap(linear.kernel)
    with exchanged(linear, tap):
        yield tap


@contextmanager
def catching(linear: Linear) -> Iterator[InputCatcher]:
    """Catch the inputs of `linear` while the context is open; afterwards it computes again."""
    catcher = InputCatcher(linear.kernel)
    with exchanged(linear, catcher):
        yield catcher


@contextmanager
def exchanged(linear: Linear, kernel: LinearKernel) -> Iterator[None]:
    """Let `linear` compute with another `kernel` while the context is open."""
    own = linear.kernel
    linear.kernel = kernel
    try:
        yield
    finally:
        linear.kernel = own
