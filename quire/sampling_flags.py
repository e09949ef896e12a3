"""Flags that say how an answer is sampled, over what the model's own files say."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

from engine.config import setting
from engine.text.defaults import GenerationDefaults
from engine.types import SamplingParams
from quire.arguments import ArgumentParser, add_settings, from_command_line
from quire.settings import resolve


@dataclass(frozen=True, slots=True)
class SamplingFlags:
    """Values for `SamplingParams`, where the names are explained; None leaves the choice to the model."""

    max_tokens: int | None = setting(None, "most tokens of an answer; default is what the model's context leaves")
    temperature: float | None = setting(None, "0 takes the likeliest token always; higher is more varied")
    top_p: float | None = setting(None, "keep the likeliest tokens that together reach this probability")
    top_k: int | None = setting(None, "keep this many of the likeliest tokens")
    min_p: float | None = setting(None, "drop tokens less likely than this fraction of the likeliest")
    repetition_penalty: float | None = setting(None, "above 1 makes tokens of prompt and answer less likely")
    presence_penalty: float | None = setting(None, "lowers tokens that occur in the answer")
    frequency_penalty: float | None = setting(None, "lowers tokens by how often they occur in the answer")
    seed: int | None = setting(None, "makes the answer reproducible")


def add_sampling_options(parser: ArgumentParser) -> None:
    """Give the parser a flag for each of them, and `--stop`."""
    add_settings(parser, SamplingFlags, "sampling (default: what the model's generation_config.json says)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may repeat")


def given_sampling(arguments: argparse.Namespace) -> dict[str, object]:
    """The values given on the command line, by name.

    Raises:
        ConfigError: one has the wrong type.
    """
    flags = resolve(SamplingFlags, [from_command_line(arguments)]).config
    given: dict[str, object] = {name: value for name, value in asdict(flags).items() if value is not None}
    return {**given, "stop": arguments.stop} if arguments.stop else given


def sampling_params(given: dict[str, object], defaults: GenerationDefaults) -> SamplingParams:
    """The model's defaults, overridden by what was given.

    Raises:
        InvalidRequestError: a value is out of range.
    """
    own = {name: value for name, value in asdict(defaults).items() if value is not None and name != "eos_token_ids"}
    values: dict[str, object] = {"max_tokens": None, **own, **given}
    return SamplingParams(**values)  # type: ignore[arg-type]  # each was converted to its field's type
