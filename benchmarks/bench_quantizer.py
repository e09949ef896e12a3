"""What quantizing recipes are worth: KL divergence, size and time side by side.

    python -m benchmarks.bench_quantizer MODEL --calibration TEXT --text TEXT [--variants exllamav2 default …]
        [--bpw 3 4] [--seeds 0 1 2] [--rows 100] [--length 512] [--windows 64] [--results FILE.json]

Every variant quantizes the model on rows of the calibration text, other rows for every seed, and is measured on the
first windows of the other text. Seconds are processor time. `ratio` compares with the yardstick `exllamav2` of the
same size and seed, `time` with its quantizing pass alone: plain GPTQ. With --results, what is known already is not run
again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch

from benchmarks.quantizer_variants import VARIANTS
from engine.errors import QuantizationError
from engine.model.config import load_config
from engine.model.config_reader import read_json
from engine.ops.torch_backend import TorchBackend
from engine.text.tokenizer import load_tokenizer
from quantize.evaluate import compare, read_windows
from quantize.exl2.allocate import Plan, plan_of
from quantize.exl2.head import head_groups
from quantize.matrix_report import MatrixReport
from quantize.model_quantizer import BlockResult, ModelQuantizer, Streams
from quantize.padding import open_padded, padded_config
from quantize.recipe import Recipe
from quantize.source_model import SourceModel, open_source
from quantize.text_windows import opening_tokens, text_tokens
from quantize.tuning import tune
from quantize.writer import write_model

YARDSTICK = "exllamav2"
HEAD_BITS = 6


class Quiet:
    """Implements `Progress`; shows nothing."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Nothing to do."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """One quantized model. Times in seconds of processor time."""

    variant: str
    bpw_requested: float
    seed: int
    bpw: float
    kl: float
    kl_standard_error: float
    kl_p99: float
    top1: float
    perplexity: float
    measure_seconds: float
    quantize_seconds: float

    @property
    def key(self) -> tuple[str, float, int]:
        """What it is a result of."""
        return self.variant, self.bpw_requested, self.seed


class Bench:
    """Quantizes one model again and again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._model: Path = options.model
        self._length: int = options.length
        tokenizer = load_tokenizer(self._model)
        self._opening = opening_tokens(tokenizer)
        self._tokens = text_tokens(options.calibration, tokenizer, QuantizationError)
        self._rows: int = options.rows
        self._windows = read_windows(options.text, tokenizer, self._length, options.windows)

    def results(self, name: str, sizes: Sequence[float], seed: int) -> Iterator[Result]:
        """Quantize at every one of `sizes` with the variant `name`; those that cannot be reached are left out."""
        variant = VARIANTS[name]
        recipe = variant.recipe
        rows = self._calibration(seed)
        with TemporaryDirectory() as folder:
            scratch = Path(folder)
            source = self._open(self._model, scratch)
            start = time.process_time()
            choices = recipe.measure(source, rows, Quiet())
            measured = time.process_time() - start
            for bpw in sizes:
                start = time.process_time()
                try:
                    plan = plan_of(choices, recipe.allocate(choices, bpw, seed))
                except QuantizationError as error:
                    print(f"{name} {bpw:g}: {error}", flush=True)
                    continue
                allocated = time.process_time() - start
                plan[source.head_name] = head_groups(source.layout.head.in_features, HEAD_BITS)
                start = time.process_time()
                parts = self._quantize(source, plan, recipe, rows, scratch)
                tensors = {key: tensor for part in parts for key, tensor in part.tensors.items()}
                if variant.tune:
                    tensors = tune(source, tensors, rows, variant.tune, seed, Quiet()).tensors
                seconds = (measured + allocated, time.process_time() - start)
                reports = [report for part in parts for report in part.reports]
                yield self._result((name, bpw, seed), tensors, reports, scratch, seconds)

    def _quantize(
        self, source: SourceModel, plan: Plan, recipe: Recipe, rows: torch.Tensor, scratch: Path
    ) -> list[BlockResult]:
        quantizer = ModelQuantizer(source, plan, recipe, rows.numel(), Quiet())
        config = source.model.config
        streams = Streams.open(scratch, rows, config.hidden_size, source.model.backend)
        parts = [quantizer.begin(rows, streams)]
        parts += [quantizer.layer(index, streams) for index in range(config.num_layers)]
        return [*parts, quantizer.head(streams)]

    def _result(
        self,
        key: tuple[str, float, int],
        tensors: dict[str, torch.Tensor],
        reports: Sequence[MatrixReport],
        scratch: Path,
        seconds: tuple[float, float],
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
        found, known = (self._open(folder, scratch).model for folder in (scratch, self._model))
        tally = compare(found, known, self._windows, scratch, Quiet())
        decoder = reports[:-1]
        weights = [report.in_features * report.out_features for report in decoder]
        bits = sum(map(mul, weights, (report.bits_per_weight for report in decoder)))
        mean, standard_error, p99, top1 = (
            float(each or 0.0) for each in (tally.kl_mean, tally.kl_standard_error, tally.kl_p99, tally.top1_agreement)
        )
        return Result(
            *key,
            bpw=bits / sum(weights),
            kl=mean,
            kl_standard_error=standard_error,
            kl_p99=p99,
            top1=top1,
            perplexity=tally.perplexity,
            measure_seconds=seconds[0],
            quantize_seconds=seconds[1],
        )

    def _open(self, model: Path, scratch: Path) -> SourceModel:
        config = load_config(model)
        checkpoint = open_padded(model, config)
        return open_source(checkpoint, padded_config(config), TorchBackend(), self._length, scratch)

    def _calibration(self, seed: int) -> torch.Tensor:
        """Rows spread evenly over the text, at other places for every seed."""
        body = self._length - len(self._opening)
        stride = len(self._tokens) // self._rows
        if stride < body:
            raise QuantizationError(
                f"The calibration text has {len(self._tokens)} tokens; {self._rows} rows of {self._length} need more."
            )
        shift = seed * 1009 % (stride - body + 1)
        starts = range(shift, shift + self._rows * stride, stride)
        return torch.tensor([self._opening + self._tokens[start : start + body] for start in starts]).int()


def table(results: Sequence[Result]) -> str:
    """Means over seeds, one line per size and variant, in Markdown."""
    lines = [
        "| asked for | variant | bpw | KL | ± seeds | KL p99 | top-1 | perplexity | ratio | seconds | time |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    by_key = {each.key: each for each in results}
    for bpw in sorted({each.bpw_requested for each in results}):
        for variant in dict.fromkeys(each.variant for each in results):
            group = [each for each in results if (each.variant, each.bpw_requested) == (variant, bpw)]
            if group:
                lines.append(_line(group, [by_key.get((YARDSTICK, bpw, each.seed)) for each in group]))
    return "\n".join(lines)


def _line(group: Sequence[Result], yardsticks: Sequence[Result | None]) -> str:
    seconds = fmean(each.measure_seconds + each.quantize_seconds for each in group)
    ratio = time_ratio = "–"
    known = [each for each in yardsticks if each is not None]
    if len(known) == len(group):
        ratio = f"{fmean(each.kl for each in group) / fmean(each.kl for each in known):.3f}"
        time_ratio = f"{seconds / fmean(each.quantize_seconds for each in known):.2f}"
    kls = torch.tensor([each.kl for each in group], dtype=torch.float64)
    spread = f"{float(kls.std()):.2g}" if len(group) > 1 else "–"
    return (
        f"| {group[0].bpw_requested:g} | {group[0].variant} | {fmean(each.bpw for each in group):.3f} "
        f"| {float(kls.mean()):.4g} | {spread} | {fmean(each.kl_p99 for each in group):.3g} "
        f"| {fmean(each.top1 for each in group):.1%} | {fmean(each.perplexity for each in group):.2f} "
        f"| {ratio} | {seconds:.1f} | {time_ratio} |"
    )


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


def _load(options: argparse.Namespace) -> list[Result]:
    if options.results is None or not options.results.exists():
        return []
    return [Result(**each) for each in json.loads(options.results.read_text())]


def main() -> None:
    """Run what is not known yet, then print the table of everything asked for."""
    options = _parse()
    results = _load(options)
    bench = Bench(options)
    for seed in options.seeds:
        for name in options.variants:
            known = {each.key for each in results}
            missing = [bpw for bpw in options.bpw if (name, bpw, seed) not in known]
            if not missing:
                continue
            for result in bench.results(name, missing, seed):
                print(
                    f"{name} {result.bpw_requested:g} seed {seed}: KL {result.kl:.5f} at {result.bpw:.3f}", flush=True
                )
                results.append(result)
                if options.results is not None:
                    options.results.write_text(json.dumps([asdict(each) for each in results], indent=1))
    asked = [each for each in results if each.variant in options.variants and each.bpw_requested in options.bpw]
    print(table([each for each in asked if each.seed in options.seeds]))


if __name__ == "__main__":
    main()
