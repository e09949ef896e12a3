"""What a quantization job is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from engine.config import Device, setting
from engine.errors import ConfigError
from quantize.exl2.head import HEAD_SHARES
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
    bpw: float = setting(4.0, "bits per weight of the decoder layers, everything stored for them included")
    head_bits: int = setting(6, "bits of the output head: 2, 3, 4, 5, 6 or 8")
    rows: int = setting(100, "calibration rows")
    length: int = setting(512, "tokens per calibration row, at most the model's context length")
    text: Path | None = setting(None, "calibration text (UTF-8); without one the model writes its own")
    seed: int = setting(0, "seed of everything drawn at random")
    recipe: str = setting("default", "default, or exllamav2: as ExLlamaV2's own converter does it, to compare with")
    bpw_total: bool = setting(False, "let bpw cover the head too; its widths are then chosen with all others")
    shard_bytes: int = setting(8 << 30, "size at which a weight file is closed and the next one begun, in bytes")
    restart: bool = setting(False, "throw away what an interrupted job has left, instead of going on with it")
    device: Device = setting("auto", "device to compute on; auto means cpu")
    threads: int = setting(0, "CPU threads; 0 means one per physical core this process may use")
    ignore_config_keys: tuple[str, ...] = setting((), "keys of config.json to accept although Quire does not know them")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bpw) and 1.0 <= self.bpw <= 16.0):
            raise ConfigError(f"bpw must be between 1 and 16, not {self.bpw}.")
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
        for name, least in (("rows", 1), ("length", 16), ("shard_bytes", 1), ("seed", 0), ("threads", 0)):
            if not least <= getattr(self, name) <= MOST:
                raise ConfigError(f"{name} must be between {least} and {MOST}, not {getattr(self, name)}.")
