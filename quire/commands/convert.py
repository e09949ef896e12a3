"""`quire convert`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from quantize.convert import convert_to_dense
from quire.arguments import ArgumentParser
from quire.configuration import add_model_options, local_engine
from quire.progress import show_progress
from quire.settings import convert


def run(arguments: Sequence[str]) -> int:
    """Write a model in another form."""
    parsed = _parser().parse(arguments)
    convert(parsed.to, Literal["dense"], "--to")
    out = convert(parsed.out, Path, "OUT")
    engine = local_engine(parsed)
    with show_progress(sys.stderr) as progress:
        sizes = convert_to_dense(
            Path(engine.model),
            out,
            progress=progress,
            ignore_config_keys=engine.ignore_config_keys,
        )
    files = "1 file" if len(sizes) == 1 else f"{len(sizes)} files"
    print(f"{parsed.model} -> {out}: {sum(sizes.values()) / 2**20:.1f} MiB of float16 weights in {files}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("quire convert", "Write a model as plain float16 safetensors, which transformers loads.")
    parser.add_argument("model", metavar="MODEL", help="model directory or hub id (org/name), EXL2 or dense")
    parser.add_argument(
        "out", metavar="OUT", help="new or empty directory; the model appears there only when it is complete"
    )
    parser.add_argument("--to", default="dense", metavar="{dense}", help="form to write (default: dense)")
    add_model_options(parser, ("ignore_config_keys",))
    return parser
