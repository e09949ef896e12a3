"""What the steps of a quantization cost here, and what a large model would take at these rates.

    python -m benchmarks.bench_quantizer_cost --size 2048

Every step is timed on one matrix of random numbers. Products of matrices are counted in multiply-adds, the searches in
weights. The times of whole models are derived from these rates, not measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from quantize.exl2.candidates import matrix_options
from quantize.exl2.estimate import SAMPLED_COLUMNS, estimate_errors
from quantize.exl2.layout import Group
from quantize.gptq import quantize_matrix
from quantize.hessian import InputMoments, factor_hessian
from quantize.measure import MEASUREMENT_ROWS
from quantize.recipe import DEFAULT
from quantize.sensitivity import Sensitivity

HOUR = 3600.0


@dataclass(frozen=True)
class Model:
    """The shape of a model."""

    name: str
    layers: int
    hidden: int
    inner: int
    keys: int
    vocabulary: int

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's matrices."""
        h, f, k = self.hidden, self.inner, self.keys
        return [(h, h), (h, k), (h, k), (h, h), (h, f), (h, f), (f, h)]

    @property
    def layer_weights(self) -> int:
        """Weights of a layer's matrices."""
        return sum(rows * columns for rows, columns in self.matrices)


MODELS = (
    Model("8B", 32, 4096, 14336, 1024, 128256),
    Model("70B", 80, 8192, 28672, 1024, 128256),
)


@dataclass(frozen=True)
class Rates:
    """Seconds per 10⁹ multiply-adds, and per 10⁶ weights."""

    product: float
    factor: float
    gptq: float
    search: float
    refine: float
    refine_product: float
    estimate: float


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two tries, in seconds of one core: whatever else runs here counts as little as possible."""
    times = []
    for _ in range(2):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def _matrix_seconds(size: int, columns: int, groups: int) -> tuple[float, float, float, float]:
    """Factoring, GPTQ, refinement and estimate of one matrix."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, columns, generator=generator) * size**-0.5
    moments = InputMoments("x")
    moments.add(torch.randn(2 * size, size, generator=generator))
    hessian = moments.hessian()
    factoring = _seconds(lambda: factor_hessian(hessian, "x"))
    factor = factor_hessian(hessian, "x")
    layout = [Group(4, groups)] * (size // groups)
    matrix = quantize_matrix(weight, factor, layout, DEFAULT.search)
    solving = _seconds(lambda: quantize_matrix(weight, factor, layout, DEFAULT.search))
    refining = 0.0
    if DEFAULT.refinement is not None:
        refinement = DEFAULT.refinement
        refining = _seconds(lambda: refinement(weight, factor, matrix))
    plain = Sensitivity.of_output(weight)
    estimating = _seconds(lambda: matrix_options(size, columns, estimate_errors(weight, factor, DEFAULT.search, plain)))
    return factoring, solving, refining, estimating


def measure(size: int) -> Rates:
    """The rates of this machine, from matrices of `size` inputs and of a quarter as many."""
    left, right = torch.randn(size, 2048), torch.randn(2048, size)
    product = _seconds(lambda: left @ right) / (size * 2048 * size / 1e9)
    columns = size // 4
    small, large = _matrix_seconds(size // 4, columns, 64), _matrix_seconds(size, columns, 64)
    gptq, search = _fit(size, columns, small[1], large[1], product)
    refine_product, refine = _fit(size, columns, small[2], large[2], product)
    return Rates(
        product,
        large[0] / (size**3 / 1e9),
        gptq,
        search,
        refine,
        refine_product,
        large[3] / (size * min(columns, SAMPLED_COLUMNS) / 1e6),
    )


def _fit(size: int, columns: int, small: float, large: float, product: float) -> tuple[float, float]:
    """a and b of seconds = a · K² N + b · K N, with `small` seconds for a quarter of the K that takes `large`."""
    weights, products = size * columns / 1e6, size * size * columns / 1e9
    slope = max((large - 4 * small) / (products * 3 / 4), product / 2)
    return slope, max(large - slope * products, 0.0) / weights


def estimate(model: Model, rates: Rates, tokens: int) -> tuple[float, float]:
    """Core hours for the measurement, and for quantizing one size."""
    measured_tokens = MEASUREMENT_ROWS * 512
    measuring = quantizing = 0.0
    for rows, columns in model.matrices:
        solving = rates.gptq * rows * rows * columns / 1e9 + rates.search * rows * columns / 1e6
        refining = rates.refine_product * rows * rows * columns / 1e9 + rates.refine * rows * columns / 1e6
        squares = rates.product * rows * rows / 1e9
        factoring = rates.factor * rows**3 / 1e9
        passing = rates.product * rows * columns / 1e9
        # forward, again for Hessians, again with gradients, back, the weights' gradient; moments and whitened inputs
        measuring += factoring + (5 * passing + 2 * squares) * measured_tokens
        measuring += rates.estimate * rows * min(columns, SAMPLED_COLUMNS) / 1e6
        quantizing += solving + refining + factoring + (4 * passing + 2 * squares) * tokens
        quantizing += rates.product * rows * rows * columns / 1e9
    head = model.hidden * model.vocabulary
    scoring = 2 * rates.product * head * measured_tokens / 1e9
    head_solving = rates.gptq * model.hidden * head / 1e9 + rates.search * head / 1e6
    return (measuring * model.layers + scoring) / HOUR, (quantizing * model.layers + head_solving) / HOUR


def main() -> None:
    """Measure, and print rates and estimates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=100 * 512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rates = measure(options.size)
    print(f"one core: {rates}")
    for model in MODELS:
        measuring, quantizing = estimate(model, rates, options.tokens)
        print(f"{model.name}: measurement {measuring:.1f} core hours, each size {quantizing:.1f} core hours")


if __name__ == "__main__":
    main()
