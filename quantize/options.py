"""What a quantization job is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from engine.config import Device, setting
from engine.errors import ConfigError
from quantize.calibration_files import CalibrationFile, parse_calibration_file
from quantize.exl2.head import HEAD_SHARES
from quantize.overrides import Override, parse_override
from quantize.recipe import RECIPES

MOST = 1 << 62
"""Largest whole number that is taken anywhere: more than any machine holds, and products of it are still numbers."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """One quantization job.

    Raises:
        ConfigError: a value is out of range; the message names the option.
    """

    source: Path = setting(Path(), "Hugging Face model directory with float16, bfloat16 or float32 weights")
    out: Path = setting(Path(), "new or empty directory; the model appears there only when it is complete")
    bpw: tuple[float, ...] = setting(
        (4.0,), "bits per weight of the decoder layers, all included; of several each makes a model OUT-4.0bpw"
    )
    head_bits: int = setting(6, "bits of the output head: 2, 3, 4, 5, 6 or 8")
    override: tuple[str, ...] = setting((), "bits for some of the matrices, PATTERN=BITS: layers.0.*=6, *.down_proj=5")
    rows: int = setting(100, "calibration rows")
    length: int = setting(512, "tokens per calibration row, at most the model's context length")
    calibration: tuple[str, ...] = setting(
        (), "calibration texts, FILE[:WEIGHT]: UTF-8 text, .jsonl or .parquet; without any the model writes its own"
    )
    check_rows: int = setting(8, "most rows of text that are kept back to measure the result on; 0 leaves that out")
    seed: int = setting(0, "seed of everything drawn at random")
    recipe: str = setting("default", "default, or exllamav2: as ExLlamaV2's own converter does it, to compare with")
    bpw_total: bool = setting(False, "let bpw cover the head too; its widths are then chosen with all others")
    measurement: Path | None = setting(None, "measurement.json of an earlier job, ours or ExLlamaV2's, to go by")
    tune: int = setting(0, "steps of training embedding, norms and scales afterwards, for small models; 0 for none")
    shard_bytes: int = setting(8 << 30, "size at which a weight file is closed and the next one begun, in bytes")
    restart: bool = setting(False, "throw away what an interrupted job has left, instead of going on with it")
    device: Device = setting("auto", "device to compute on; auto means cpu")
    threads: int = setting(0, "CPU threads; 0 means one per physical core this process may use")
    ignore_config_keys: tuple[str, ...] = setting((), "keys of config.json to accept although Quire does not know them")
    source_name: str = setting("", "what reports call the source; empty means the name of its directory")

    def __post_init__(self) -> None:
        if not self.bpw:
            raise ConfigError("bpw must have a value.")
        for bpw in self.bpw:
            if not (math.isfinite(bpw) and 1.0 <= bpw <= 16.0):
                raise ConfigError(f"bpw must be between 1 and 16, not {bpw}.")
        if len({size_name(bpw) for bpw in self.bpw}) < len(self.bpw):
            raise ConfigError(f"bpw names a size twice: {', '.join(map(size_name, self.bpw))}.")
        if self.head_bits not in HEAD_SHARES:
            choices = ", ".join(str(bits) for bits in HEAD_SHARES)
            raise ConfigError(f"head_bits must be one of {choices}, not {self.head_bits}.")
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe must be one of {', '.join(RECIPES)}, not {self.recipe}.")
        if self.bpw_total and self.head_bits != 6:
            raise ConfigError(
                "head_bits cannot be set together with bpw_total, which chooses the head's widths itself."
            )
        if self.bpw_total and RECIPES[self.recipe].measure_head is None:
            raise ConfigError(f"bpw_total is not possible with the recipe {self.recipe}: its head has fixed widths.")
        least = {"rows": 1, "length": 16, "check_rows": 0, "shard_bytes": 1, "seed": 0, "tune": 0, "threads": 0}
        for name, bound in least.items():
            if not bound <= getattr(self, name) <= MOST:
                raise ConfigError(f"{name} must be between {bound} and {MOST}, not {getattr(self, name)}.")
        if self.tune and self.rows < 2:
            raise ConfigError("tune needs rows to be at least 2: it trains on some and judges by others.")
        self.overrides, self.calibration_files  # noqa: B018  (they check what they are made of)

    @property
    def overrides(self) -> tuple[Override, ...]:
        """What `override` says."""
        return tuple(parse_override(word) for word in self.override)

    @property
    def calibration_files(self) -> tuple[CalibrationFile, ...]:
        """What `calibration` says."""
        return tuple(parse_calibration_file(word) for word in self.calibration)

    def out_of(self, bpw: float) -> Path:
        """Where the model of one size goes: `out`, or where there are several, `out` with the size behind it."""
        return self.out if len(self.bpw) == 1 else self.out.with_name(f"{self.out.name}-{size_name(bpw)}")


def size_name(bpw: float) -> str:
    """`4.0bpw`, `3.25bpw`."""
    return f"{bpw:.1f}bpw" if bpw == round(bpw, 1) else f"{bpw:g}bpw"
