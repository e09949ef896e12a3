"""What decides about the bytes a job writes, so that an interrupted one goes on with nothing else."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.errors import QuantizationError
from engine.model.config import ModelConfig
from quantize.atomic_file import file_digest
from quantize.memory import row_length
from quantize.options import QuantizeOptions
from quantize.work_directory import Settings

JOB_VERSION = 5
"""To be raised whenever equal settings give other bytes than before, or work directories hold something else."""


def job_settings(options: QuantizeOptions, config: ModelConfig, weights: str) -> Settings:
    """The settings of a job by the names they have on the command line, with what they name.

    Args:
        options: what to do.
        config: of the source.
        weights: SHA-256 of the source's weights.

    Raises:
        QuantizationError: a file that is named cannot be read.
    """
    return {
        "job version": JOB_VERSION,
        "torch": torch.__version__,
        "weights of the source (sha256)": weights,
        "configuration of the source": repr(config),
        "bpw": options.bpw,
        "head-bits": options.head_bits,
        "bpw-total": options.bpw_total,
        "override": options.override,
        "tune": options.tune,
        "rows": options.rows,
        "length": row_length(options, config),
        "calibration": [
            {"name": file.path.name, "weight": file.weight, "sha256": _digest(file.path)}
            for file in options.calibration_files
        ],
        "check-rows": options.check_rows,
        "seed": options.seed,
        "recipe": options.recipe,
        "measurement": None if options.measurement is None else _digest(options.measurement),
        "shard-bytes": options.shard_bytes,
        "device": options.device,
    }


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise QuantizationError(f"{path} cannot be read: {error.strerror}.") from None
