"""Print conversations the model was not trained on, as text, for calibrating a quantizer.

    python calibration.py --conversations 1500 > calibration.txt

None of the held-out keys of `eval.jsonl` occurs in them.
"""

from __future__ import annotations

import argparse
from itertools import islice

import corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=9001, help="training used other seeds")
    options = parser.parse_args()
    usable = (sample for sample in corpus.samples(options.seed) if not sample.is_held_out)
    for sample in islice(usable, options.conversations):
        print("".join(text for text, _ in corpus.render(sample.messages, sample.tools)), end="")


if __name__ == "__main__":
    main()
