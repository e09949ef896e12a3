"""What each part of the default recipe is worth: the tables of docs/quantization.md, from what a sweep has kept.

python -m benchmarks.quantizer_sweep MODELS --stories … --bpw 3 4 --variants exllamav2 default default-refine …
    --results FOLDER
python -m benchmarks.quantizer_levers FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quantizer_results import Point, Result, load, points, spread

MEANINGS = {
    "exllamav2": "the yardstick",
    "exllamav2+drift": "yardstick, targets corrected for the drift of the inputs",
    "exllamav2+repay": "the same, half of the residual stream's error repaid by o and down",
    "exllamav2+repay+fresh": "the same, and o and down on fresh inputs",
    "exllamav2+widths": "yardstick, with our measurement and allocation of bits",
    "default": "**default**",
    "default+tune": "default, then norms, maxima and embedding tuned on the calibration rows (`--tune`)",
    "default-refine": "default without refinement",
    "default+refine8": "default, eight passes of refinement instead of four",
    "default-repay": "default, nothing of the residual stream's error repaid",
    "default+full-repay": "default, all of it repaid",
    "default-drift": "default, targets not corrected",
    "default-fresh": "default, o and down on the inputs they had before q, k, v and gate, up were quantized",
}


def levers(results: Sequence[Result]) -> str:
    """One line for each variant in Markdown: KL at each size, and its ratio to the default's."""
    known = points(results)
    sizes = sorted({each.bpw_requested for each in known})
    heads = [f"{size:.1f}" for size in sizes]
    lines = [
        f"| recipe | KL at {' | KL at '.join(heads)} | over default at {' | at '.join(heads)} |",
        f"|---|{'--:|' * (2 * len(sizes))}",
    ]
    for variant, meaning in MEANINGS.items():
        own = [each for each in known if each.variant == variant]
        if [each.bpw_requested for each in own] == sizes:
            lines.append(_line(meaning, own, [each for each in known if each.variant == "default"]))
    return "\n".join(lines)


def _line(meaning: str, own: Sequence[Point], default: Sequence[Point]) -> str:
    kls = [spread(list(each.kls.values())) for each in own]
    ratios = [f"{each.kl / base.kl:.2f}" for each, base in zip(own, default, strict=True)]
    return f"| {' | '.join([meaning, *kls, *ratios])} |"


def main() -> None:
    """Print a table for each model in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for file in sorted(parser.parse_args().folder.glob("*.json")):
        print(f"\n{file.stem}\n\n{levers(load(file))}")


if __name__ == "__main__":
    main()
