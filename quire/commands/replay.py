"""`quire replay`"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import setting
from engine.errors import ConfigError
from quire.arguments import ArgumentParser, add_settings, from_command_line
from quire.configuration import TABLES
from quire.remote_model import ClientConfig
from quire.replay.dump_file import read_dump
from quire.replay.send import MOST_AT_A_TIME, Target, send_all
from quire.replay.verdict import compare
from quire.settings import from_environment, resolve


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Where to send requests, and how many at a time.

    Raises:
        ConfigError: a value is missing or out of range.
    """

    base_url: str = setting("", "server to send to, e.g. http://127.0.0.1:8000 (required)")
    model: str = setting("", "name of the model there; default: the one each request names")
    concurrency: int = setting(1, "requests in flight at a time")
    keep_timing: bool = setting(
        False, "send each as long after the first one as it came then; --concurrency has no say"
    )

    def __post_init__(self) -> None:
        if not self.base_url:
            raise ConfigError("Name a server to send to with --base-url, e.g. --base-url http://127.0.0.1:8000.")
        if not 1 <= self.concurrency <= MOST_AT_A_TIME:
            raise ConfigError(f"concurrency must be between 1 and {MOST_AT_A_TIME}, not {self.concurrency}.")


def run(arguments: Sequence[str]) -> int:
    """Send dumped requests again; 1 if one of them ends otherwise than it did."""
    parsed = _parser().parse(arguments)
    flags = from_command_line(parsed)
    options = resolve(ReplayOptions, [flags]).config
    environment = from_environment(list(TABLES.values()), os.environ)
    key = next(iter(resolve(ClientConfig, [flags, environment]).config.api_key), "")
    dumps = sorted(map(read_dump, _files(parsed.files)), key=lambda dump: dump.received)
    sendable = [dump for dump in dumps if dump.body is not None]
    for dump in dumps:
        if dump.body is None:
            print(f"skipped  {dump.name}: its body was no JSON object, and is not in the dump")
    target = Target(options.base_url, key, options.model)
    outcomes = send_all(sendable, target, at_a_time=options.concurrency, keep_timing=options.keep_timing)
    differing = 0
    for dump, outcome in zip(sendable, outcomes, strict=True):
        verdict = compare(dump, outcome)
        differing += bool(verdict.differences)
        word = "DIFFERS" if verdict.differences else "same"
        print(f"{word:<8} {dump.name}: {dump.seconds:.3f} s then, {outcome.seconds:.3f} s now")
        for line in (*verdict.differences, *verdict.notes):
            print(f"         {line}")
    print(f"{len(sendable) - differing} as before, {differing} otherwise, {len(dumps) - len(sendable)} skipped")
    return 1 if differing else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "quire replay",
        "Send requests again that quire serve --dump-requests has written, and compare what becomes of them: status, "
        "error, finish reasons, token counts, and texts where the dump has them.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a dump, or a folder of dumps")
    add_settings(parser, ReplayOptions, "replay")
    add_settings(parser, ClientConfig, "access to the server")
    return parser


def _files(named: Sequence[Path]) -> list[Path]:
    files = [file for each in named for file in (sorted(each.glob("*.json")) if each.is_dir() else [each])]
    if not files:
        raise ConfigError("There are no dumps in the folders that are named.")
    return files
