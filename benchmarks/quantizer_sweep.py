"""Both recipes on three small models at six sizes with three choices of rows: the tables of docs/quantization.md.

    python -m benchmarks.quantizer_sweep MODELS --stories tinystories-train-head.txt.gz --results FOLDER
        [--models quire-demo tinystories-656k stories260k] [--variants exllamav2 default] [--seeds 0 1 2]
        [--bpw 2.5 3 3.5 4 5 6] [--rows 100]

MODELS holds the float16 models in folders of their names. The demo model is calibrated on generated conversations and
measured on others; the story models on the two halves of the stories. FOLDER gets a file for each model; what is there
already is not run again, so an interrupted sweep goes on, and several may run at once on different models or variants.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench_quantizer import Bench, Extent
from benchmarks.quantizer_results import YARDSTICK, load, table
from benchmarks.quantizer_variants import VARIANTS

LENGTH = 512
STORIES_CUT = 472213
"""Bytes of the stories that are for calibration."""

GENERATOR = Path(__file__).parents[1] / "demo" / "training" / "calibration.py"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, and what it is measured on.

    Attributes:
        stories: whether it writes stories; otherwise it is the demo model.
        windows: how many of the text it is measured on.
    """

    stories: bool
    windows: int


SUBJECTS = {
    "quire-demo": Subject(stories=False, windows=48),
    "tinystories-656k": Subject(stories=True, windows=64),
    "stories260k": Subject(stories=True, windows=64),
}


def write_stories(archive: Path, folder: Path) -> tuple[Path, Path]:
    """The stories to calibrate and to measure on."""
    stories = gzip.decompress(archive.read_bytes())
    parts = folder / "stories-calibration.txt", folder / "stories-eval.txt"
    for path, text in zip(parts, (stories[:STORIES_CUT], stories[STORIES_CUT:]), strict=True):
        path.write_bytes(text)
    return parts


def write_conversations(folder: Path) -> tuple[Path, Path]:
    """Conversations to calibrate and to measure the demo model on, from two seeds that training did not use."""
    parts = folder / "demo-calibration.txt", folder / "demo-eval.txt"
    for path, seed, count in zip(parts, (9001, 9002), (3000, 400), strict=True):
        command = [sys.executable, str(GENERATOR), "--seed", str(seed), "--conversations", str(count)]
        with path.open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
    return parts


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="MODELS", type=Path)
    parser.add_argument("--stories", type=Path, required=True, help="the head of TinyStories, gzip")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[YARDSTICK, "default"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--bpw", nargs="+", type=float, default=[2.5, 3.0, 3.5, 4.0, 5.0, 6.0])
    parser.add_argument("--rows", type=int, default=100)
    return parser.parse_args()


def _bench(model: Path, texts: dict[bool, tuple[Path, Path]], rows: int) -> Bench:
    subject = SUBJECTS[model.name]
    return Bench(model, *texts[subject.stories], Extent(rows=rows, length=LENGTH, windows=subject.windows))


def main() -> None:
    """Run what is not known yet, seed after seed, then print a table for each model."""
    options = _parse()
    with TemporaryDirectory() as name:
        folder = Path(name)
        texts = {True: write_stories(options.stories, folder), False: write_conversations(folder)}
        benches = {model: _bench(options.directory / model, texts, options.rows) for model in options.models}
        for seed in options.seeds:
            for model, bench in benches.items():
                for variant in options.variants:
                    bench.complete(options.results / f"{model}.json", variant, options.bpw, seed)
    for model in options.models:
        print(f"\n{model}\n\n{table(load(options.results / f'{model}.json'))}")


if __name__ == "__main__":
    main()
