"""What quantizing recipes reached, kept in a file, and the tables made of it."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev

YARDSTICK = "exllamav2"

Key = tuple[str, float, int, int, int]


@dataclass(frozen=True, slots=True)
class Result:
    """One quantized model, or a size that was asked for and cannot be met.

    Attributes:
        variant: how it was quantized.
        bpw_requested: bits per weight of the decoder layers asked for.
        seed: of the choice of calibration rows, and of whatever else is drawn at random.
        rows: calibrated on.
        windows: measured on, text that was not used for calibration.
        least_bpw: fewest bits per weight the variant can take; what follows is None where this is more than was
            asked for.
        bpw: bits per weight reached.
        kl, kl_standard_error, kl_p99: KL divergence from the original in nats: mean, its standard error over windows,
            99th percentile over positions.
        top1: share of positions where both models find the same token likeliest.
        perplexity: of the quantized model.
        measure_seconds: processor time of measurement and allocation.
        quantize_seconds: processor time of all the rest.
    """

    variant: str
    bpw_requested: float
    seed: int
    rows: int
    windows: int
    least_bpw: float
    bpw: float | None = None
    kl: float | None = None
    kl_standard_error: float | None = None
    kl_p99: float | None = None
    top1: float | None = None
    perplexity: float | None = None
    measure_seconds: float | None = None
    quantize_seconds: float | None = None

    @property
    def key(self) -> Key:
        """What it is a result of."""
        return self.variant, self.bpw_requested, self.seed, self.rows, self.windows


def load(file: Path) -> list[Result]:
    """What is kept in `file`; nothing where it does not exist."""
    if not file.exists():
        return []
    return [Result(**each) for each in json.loads(file.read_text())]


def add(file: Path, result: Result) -> None:
    """Add a result to `file`; several processes may do so at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = [*load(file), result]
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([asdict(each) for each in results], indent=1) + "\n")
        unfinished.replace(file)


@dataclass(frozen=True, slots=True)
class Point:
    """All seeds of one variant at one size; KL and bits per weight of each seed, everything else as a mean."""

    variant: str
    bpw_requested: float
    kls: dict[int, float]
    bpws: dict[int, float]
    kl_p99: float
    top1: float
    measure_seconds: float
    quantize_seconds: float

    @property
    def kl(self) -> float:
        """Mean KL divergence."""
        return fmean(self.kls.values())

    @property
    def bpw(self) -> float:
        """Mean bits per weight reached."""
        return fmean(self.bpws.values())

    @property
    def seconds(self) -> float:
        """Processor time of everything."""
        return self.measure_seconds + self.quantize_seconds


def points(results: Sequence[Result]) -> list[Point]:
    """Results put together by variant and size, sizes rising, variants in the order they come; unmet sizes left out."""
    groups: dict[tuple[float, str], list[Result]] = {}
    order = {variant: index for index, variant in enumerate(dict.fromkeys(each.variant for each in results))}
    for each in results:
        if each.bpw is not None:
            groups.setdefault((each.bpw_requested, each.variant), []).append(each)
    return [_point(groups[key]) for key in sorted(groups, key=lambda key: (key[0], order[key[1]]))]


def _point(group: Sequence[Result]) -> Point:
    return Point(
        variant=group[0].variant,
        bpw_requested=group[0].bpw_requested,
        kls={each.seed: each.kl for each in group if each.kl is not None},
        bpws={each.seed: each.bpw for each in group if each.bpw is not None},
        kl_p99=fmean(each.kl_p99 or 0.0 for each in group),
        top1=fmean(each.top1 or 0.0 for each in group),
        measure_seconds=fmean(each.measure_seconds or 0.0 for each in group),
        quantize_seconds=fmean(each.quantize_seconds or 0.0 for each in group),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A point against the yardstick's of the same size asked for, over the seeds both were run with.

    Attributes:
        ratio: of the mean KL divergences.
        worst: largest ratio of the two for one seed.
        same_size: the ratio if the variant were given exactly the bits the yardstick took; its divergence there is
            interpolated, its logarithm being nearly linear in the bits. None for a single size.
    """

    ratio: float
    worst: float
    same_size: float | None


def compared(point: Point, known: Sequence[Point]) -> Comparison | None:
    """How `point` compares with the yardstick among `known`; None where that has none of its seeds."""
    yardstick = _yardstick(point.bpw_requested, known)
    seeds = [] if yardstick is None else [seed for seed in point.kls if seed in yardstick.kls]
    if yardstick is None or not seeds:
        return None
    own = [each for each in known if each.variant == point.variant]
    at_its_size = [_interpolated(_curve(own, seed), yardstick.bpws[seed]) for seed in seeds]
    known_kl = fmean(yardstick.kls[seed] for seed in seeds)
    return Comparison(
        ratio=fmean(point.kls[seed] for seed in seeds) / known_kl,
        worst=max(point.kls[seed] / yardstick.kls[seed] for seed in seeds),
        same_size=None if None in at_its_size else fmean(each or 0.0 for each in at_its_size) / known_kl,
    )


def _yardstick(bpw_requested: float, known: Sequence[Point]) -> Point | None:
    return next((each for each in known if (each.variant, each.bpw_requested) == (YARDSTICK, bpw_requested)), None)


def _curve(own: Sequence[Point], seed: int) -> list[tuple[float, float]]:
    """(bits per weight, KL divergence) of a variant's sizes for one seed, rising."""
    return sorted((each.bpws[seed], each.kls[seed]) for each in own if seed in each.kls)


def _interpolated(curve: Sequence[tuple[float, float]], bpw: float) -> float | None:
    """KL divergence at `bpw`, from the two sizes around it, or the two nearest; None if there are no two."""
    segments = list(pairwise(curve))
    if not segments:
        return None
    left, right = next((each for each in segments if bpw <= each[1][0]), segments[-1])
    share = (bpw - left[0]) / (right[0] - left[0])
    return math.exp((1 - share) * math.log(left[1]) + share * math.log(right[1]))


def table(results: Sequence[Result]) -> str:
    """One line for each size and variant, in Markdown."""
    lines = [
        "| asked for | recipe | decoder bpw | seeds | KL | KL p99 | top-1 | ratio | worst seed | at its size | time |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    known = points(results)
    for size in sorted({each.bpw_requested for each in results}):
        for variant in dict.fromkeys(each.variant for each in results):
            point = next((each for each in known if (each.bpw_requested, each.variant) == (size, variant)), None)
            group = [each for each in results if (each.bpw_requested, each.variant) == (size, variant)]
            if point is not None:
                lines.append(_line(point, known))
            elif group:
                least = min(each.least_bpw for each in group)
                lines.append(f"| {size:.1f} | {variant} | takes at least {least:.3f} | | | | | | | | |")
    return "\n".join(lines)


def _line(point: Point, known: Sequence[Point]) -> str:
    cells = [
        f"{point.bpw_requested:.1f}",
        point.variant,
        f"{point.bpw:.3f}",
        str(len(point.kls)),
        spread(list(point.kls.values())),
        f"{point.kl_p99:.2g}",
        f"{point.top1:.1%}".replace("%", " %"),
        *_ratios(point, known),
    ]
    return f"| {' | '.join(cells)} |"


def _ratios(point: Point, known: Sequence[Point]) -> list[str]:
    """Of divergences, for the worst seed, at the yardstick's size, and of times: that of its quantizing pass alone."""
    comparison, yardstick = compared(point, known), _yardstick(point.bpw_requested, known)
    if comparison is None or yardstick is None:
        return [""] * 4
    time = f"{point.seconds / yardstick.quantize_seconds:.1f}"
    if point.variant == YARDSTICK:
        return ["1", "", "", time]
    same_size = "" if comparison.same_size is None else f"{comparison.same_size:.2f}"
    return [f"{comparison.ratio:.2f}", f"{comparison.worst:.2f}", same_size, time]


def spread(values: Sequence[float]) -> str:
    """`0.149 ± 0.003`: the mean to three significant digits, and the standard deviation to one at least."""
    mean = fmean(values)
    places = max(0, 2 - math.floor(math.log10(mean)))
    if len(values) == 1:
        return f"{mean:.{places}f}"
    deviation = stdev(values)
    if deviation > 0:
        places = max(places, -math.floor(math.log10(deviation)))
    return f"{mean:.{places}f} ± {deviation:.{places}f}"
