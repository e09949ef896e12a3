"""What quantizing recipes are worth: KL divergence, size and time side by side.

    python -m benchmarks.bench_quantizer MODEL --calibration TEXT --text TEXT [--variants exllamav2 default …]
        [--bpw 3 4] [--seeds 0 1 2] [--rows 100] [--length 512] [--windows 64] [--results FILE.json]

Every variant quantizes the model on rows of the calibration text, other rows for every seed, and is measured on the
first windows of the other text. `ratio` compares with the yardstick `exllamav2` of the same size and seeds, `time`
(processor time) with its quantizing pass alone: plain GPTQ. With --results, what is known already is not run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import mul
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.quantizer_results import YARDSTICK, Result, add, load, table
from benchmarks.quantizer_variants import VARIANTS
from engine.errors import QuantizationError
from engine.model.config import load_config
from engine.model.config_reader import read_json
from engine.model.loader import ModelParts
from engine.ops.torch_backend import TorchBackend
from engine.text.tokenizer import load_tokenizer
from quantize.evaluate import compare, read_windows
from quantize.exl2.allocate import Plan, plan_of
from quantize.exl2.head import head_groups
from quantize.matrix_report import MatrixReport
from quantize.model_quantizer import BlockResult, ModelQuantizer, Streams
from quantize.overrides import possible_bits
from quantize.padding import open_padded, padded_config
from quantize.recipe import Recipe
from quantize.source_model import SourceModel, open_source
from quantize.streamed_model import StreamedModel
from quantize.streams import StreamFile
from quantize.text_windows import opening_tokens, text_tokens
from quantize.tuning import tune
from quantize.writer import write_model

HEAD_BITS = 6


class Quiet:
    """Implements `Progress`; shows nothing."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Nothing to do."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much text.

    Attributes:
        rows: to calibrate on.
        length: tokens in each row and window.
        windows: to measure on.
    """

    rows: int
    length: int
    windows: int


class Reference(StreamedModel):
    """A model that is run on the same rows again and again, and computes them only once."""

    def __init__(self, parts: ModelParts) -> None:
        super().__init__(parts)
        self._known: list[torch.Tensor] = []

    def run(self, path: Path, rows: torch.Tensor, advanced: Callable[[], None]) -> StreamFile:
        """See `StreamedModel`; `rows` must be those of the first call."""
        if not self._known:
            streams = super().run(path, rows, advanced)
            self._known = [streams.read(index) for index in range(streams.rows)]
            return streams
        streams = self.open_streams(path, rows)
        for index, stream in enumerate(self._known):
            streams.write(index, stream)
        return streams


class Bench:
    """Quantizes one model again and again.

    Args:
        model: its directory.
        calibration, text: UTF-8 files to calibrate and to measure on.
        extent: how much of them is used.
    """

    def __init__(self, model: Path, calibration: Path, text: Path, extent: Extent) -> None:
        self._model = model
        self._extent = extent
        tokenizer = load_tokenizer(model)
        self._opening = opening_tokens(tokenizer)
        self._tokens = text_tokens(calibration, tokenizer, QuantizationError)
        self._windows = read_windows(text, tokenizer, extent.length, extent.windows)
        self._reference = Reference(self._open(model, Path()).model.parts)

    def complete(self, file: Path, name: str, sizes: Sequence[float], seed: int) -> None:
        """Add to `file` what it does not know yet of the variant `name`."""
        known = {each.key for each in load(file)}
        extent = (self._extent.rows, self._extent.windows)
        missing = [bpw for bpw in sizes if (name, bpw, seed, *extent) not in known]
        if not missing:
            return
        for result in self.results(name, missing, seed):
            found = "cannot be met" if result.kl is None else f"KL {result.kl:.5f} at {result.bpw:.3f}"
            print(f"{file.stem}: {name} {result.bpw_requested:g} seed {seed}: {found}", flush=True)
            add(file, result)

    def results(self, name: str, sizes: Sequence[float], seed: int) -> Iterator[Result]:
        """Quantize at every one of `sizes` with the variant `name`."""
        variant = VARIANTS[name]
        recipe = variant.recipe
        rows = self._calibration(seed)
        with TemporaryDirectory() as folder:
            scratch = Path(folder)
            source = self._open(self._model, scratch)
            start = time.process_time()
            choices = recipe.measure(source, rows, Quiet())
            measured = time.process_time() - start
            least, _ = possible_bits(choices)
            for bpw in sizes:
                result = Result(name, bpw, seed, self._extent.rows, self._extent.windows, least)
                if bpw < least:
                    yield result
                    continue
                start = time.process_time()
                plan = plan_of(choices, recipe.allocate(choices, bpw, seed))
                plan[source.head_name] = head_groups(source.layout.head.in_features, HEAD_BITS)
                allocated = time.process_time() - start
                start = time.process_time()
                parts = self._quantize(source, plan, recipe, rows, scratch)
                tensors = {key: tensor for part in parts for key, tensor in part.tensors.items()}
                if variant.tune:
                    tensors = tune(source, tensors, rows, variant.tune, seed, Quiet()).tensors
                quantized = time.process_time() - start
                reports = [report for part in parts for report in part.reports]
                yield replace(
                    self._measured(result, tensors, reports, scratch),
                    measure_seconds=measured + allocated,
                    quantize_seconds=quantized,
                )

    def _quantize(
        self, source: SourceModel, plan: Plan, recipe: Recipe, rows: torch.Tensor, scratch: Path
    ) -> list[BlockResult]:
        quantizer = ModelQuantizer(source, plan, recipe, rows.numel(), Quiet())
        config = source.model.config
        streams = Streams.open(scratch, rows, config.hidden_size, source.model.backend)
        parts = [quantizer.begin(rows, streams)]
        parts += [quantizer.layer(index, streams) for index in range(config.num_layers)]
        return [*parts, quantizer.head(streams)]

    def _measured(
        self, result: Result, tensors: dict[str, torch.Tensor], reports: Sequence[MatrixReport], scratch: Path
    ) -> Result:
        """Write the model, read it back and compare."""
        config = read_json(self._model / "config.json")
        config["intermediate_size"] = padded_config(load_config(self._model)).intermediate_size
        write_model(
            scratch,
            iter(tensors.items()),
            config=config,
            side_files_from=None,
            shard_bytes=1 << 40,
        )
        tally = compare(self._open(scratch, scratch).model, self._reference, self._windows, scratch, Quiet())
        decoder = reports[:-1]
        weights = [report.in_features * report.out_features for report in decoder]
        bits = sum(map(mul, weights, (report.bits_per_weight for report in decoder)))
        return replace(
            result,
            bpw=bits / sum(weights),
            kl=tally.kl_mean,
            kl_standard_error=tally.kl_standard_error,
            kl_p99=tally.kl_p99,
            top1=tally.top1_agreement,
            perplexity=tally.perplexity,
        )

    def _open(self, model: Path, scratch: Path) -> SourceModel:
        config = load_config(model)
        checkpoint = open_padded(model, config)
        return open_source(checkpoint, padded_config(config), TorchBackend(), self._extent.length, scratch)

    def _calibration(self, seed: int) -> torch.Tensor:
        """Rows spread evenly over the text, at other places for every seed."""
        body = self._extent.length - len(self._opening)
        stride = len(self._tokens) // self._extent.rows
        if stride < body:
            raise QuantizationError(
                f"The calibration text has {len(self._tokens)} tokens; {self._extent.rows} rows of "
                f"{self._extent.length} need more."
            )
        shift = int(place(seed) * (stride - body))
        starts = range(shift, shift + self._extent.rows * stride, stride)
        return torch.tensor([self._opening + self._tokens[start : start + body] for start in starts]).int()


def place(seed: int) -> float:
    """Where between the first possible places and the last ones a seed's rows are: 0, 1, 1/2, 1/4, 3/4, 1/8, ….

    So the rows of a few seeds have as little in common as the text allows.
    """
    if seed < 2:
        return float(seed)
    digits = f"{seed - 1:b}"
    return int(digits[::-1], 2) / (1 << len(digits))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration", type=Path, required=True, help="UTF-8 text to calibrate on")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text to measure on")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[YARDSTICK, "default"])
    parser.add_argument("--bpw", nargs="+", type=float, default=[3.0, 4.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--results", type=Path, help="JSON file that results are added to")
    return parser.parse_args()


def main() -> None:
    """Run what is not known yet, then print the table of everything asked for."""
    options = _parse()
    bench = Bench(
        options.model,
        options.calibration,
        options.text,
        Extent(rows=options.rows, length=options.length, windows=options.windows),
    )
    with TemporaryDirectory() as folder:
        file = options.results or Path(folder) / "results.json"
        for seed in options.seeds:
            for name in options.variants:
                bench.complete(file, name, options.bpw, seed)
        asked = [each for each in load(file) if each.variant in options.variants and each.seed in options.seeds]
        print(table([each for each in asked if each.bpw_requested in options.bpw]))


if __name__ == "__main__":
    main()
