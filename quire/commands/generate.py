"""`quire generate`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing

from engine.errors import InvalidRequestError
from quire.arguments import ArgumentParser
from quire.configuration import add_model_options, local_engine
from quire.local_model import open_local_model
from quire.sampling_flags import add_sampling_options, given_sampling
from quire.terminal import show


def run(arguments: Sequence[str]) -> int:
    """Continue a prompt and write what comes to standard output, as it comes."""
    parsed = _parser().parse(arguments)
    sampling = given_sampling(parsed)
    config = local_engine(parsed)
    prompt = _standard_input() if parsed.prompt == "-" else parsed.prompt
    with open_local_model(config, sampling) as model, closing(model.continuation(prompt)) as pieces:
        for piece in pieces:
            show(piece.text)
        show("\n")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("quire generate", "Continue a prompt.")
    parser.add_argument("model", metavar="MODEL", help="model directory or hub id (org/name)")
    parser.add_argument("prompt", metavar="PROMPT", help="text to continue; - reads it from standard input")
    add_sampling_options(parser)
    add_model_options(parser)
    return parser


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as problem:
        raise InvalidRequestError(f"Standard input is not UTF-8 text (byte {problem.start}).") from None
