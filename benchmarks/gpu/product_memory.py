"""Stage: what torch's products keep of this card's memory, against what is planned for them.

The first product of a process also loads cuBLAS and its code, which nobody can tell in advance; that is measured alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.program import Program
from benchmarks.report import Row
from engine.ops.cublas import products_bytes
from engine.ops.cuda_backend import CudaBackend

SIZE = 256


def measure(card: Card) -> Iterator[Row]:
    """The first product, then the first on a stream of its own, as an engine has it; with a bias, too."""
    backend = CudaBackend(card.runtime)
    x, weight, out = (torch.ones(SIZE, SIZE, dtype=torch.float16, device=card.device) for _ in range(3))
    kernels = [backend.prepare_dense(weight, bias) for bias in (None, weight[0])]

    def products() -> None:
        for kernel in kernels:
            kernel(x, out)

    steps = card.runtime.steps()
    steps.settle()

    def in_steps() -> None:
        with steps.computing():
            products()
        steps.settle()

    yield Row("torch's first products: memory", _taken(card, products) / 2**20, "MiB")
    planned = products_bytes(card.device) / 2**20
    yield Row("torch's products on a stream of their own: memory", _taken(card, in_steps) / 2**20, "MiB", planned)


def _taken(card: Card, call: Callable[[], None]) -> int:
    before = card.free_bytes()
    call()
    return before - card.free_bytes()


PROGRAM = Program(__doc__, lambda card, _: measure(card), checks=True)

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
