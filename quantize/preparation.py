"""What all sizes of a model share: calibration rows and the measurement."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.ops.backend import Backend
from engine.ops.cpu_count import usable_cores
from engine.ops.torch_backend import TorchBackend
from engine.text.chat_template import load_chat_template
from engine.text.tokenizer import load_tokenizer
from quantize.calibration import (
    CalibrationRows,
    RowOptions,
    TextGenerator,
    rows_from_files,
    rows_from_model,
)
from quantize.calibration_files import CalibrationReader
from quantize.clock import Clock
from quantize.device import CUDA
from quantize.digest import model_identity
from quantize.job_settings import job_settings
from quantize.measurement_file import Measured, read_measurement, write_measurement
from quantize.memory import row_length
from quantize.openings import read_openings
from quantize.options import QuantizeOptions
from quantize.padding import open_padded, padded_config
from quantize.preflight import check_values
from quantize.progress import Progress
from quantize.recipe import RECIPES
from quantize.row_check import check_rows
from quantize.source_model import SourceModel, open_source
from quantize.text_windows import check_vocabulary
from quantize.work_directory import WorkDirectory


@dataclass(frozen=True, slots=True)
class Prepared:
    """What every size is made from.

    Attributes:
        source: the model.
        calibration: rows.
        measured: the measurement.
        measurement: file it is kept in.
    """

    source: SourceModel
    calibration: CalibrationRows
    measured: Measured
    measurement: Path


class Preparation:
    """Makes calibration rows and the measurement, or finds them in the work directory.

    Args:
        options: of the job.
        config: of the source.
        work: where the job keeps its work.
        generator: writes calibration text if no file is named.
        progress: is told how far it is.
        clock: of the job.
    """

    def __init__(
        self,
        options: QuantizeOptions,
        config: ModelConfig,
        work: WorkDirectory,
        generator: AbstractContextManager[TextGenerator] | None,
        progress: Progress,
        clock: Clock,
    ) -> None:
        self._options = options
        self._config = config
        self._work = work
        self._generator = generator
        self._progress = progress
        self._clock = clock
        self._rows = RowOptions(options.rows, row_length(options, config), options.check_rows)

    def agree(self) -> CalibrationRows | None:
        """Hold the job to the work that was begun, if any was.

        Returns:
            Calibration rows from files, if they have just been made: a file that will not do is best found at once.

        Raises:
            QuantizationError: a text cannot be used, a weight is not finite, or settings have changed.
        """
        rows = None if self._work.calibration.exists() else self._rows_from_files()
        with self._clock.stage("preflight"):
            fingerprint = check_values(self._options.source, self._progress)
        self._work.agree(job_settings(self._options, self._config, fingerprint))
        return rows

    def finish(self, rows: CalibrationRows | None) -> Prepared:
        """Do what is left to do, `rows` being what `agree` gave.

        Raises:
            QuantizationError: the model cannot write its text, or rows or the measurement will not do.
        """
        with self._clock.stage("calibration"):
            calibration = self._calibration(rows)
        backend = _backend(self._options)
        checkpoint = open_padded(self._options.source, self._config)
        config = padded_config(self._config)
        source = open_source(checkpoint, config, backend, calibration.tokens.shape[1], self._work.scratch)
        return Prepared(source, calibration, self._measurement(source, calibration), self._work.measurement)

    def _rows_from_files(self) -> CalibrationRows | None:
        files, source = self._options.calibration_files, self._options.source
        if not files:
            return None
        with self._clock.stage("calibration"):
            self._progress.stage("Preparing calibration text", 1)
            tokenizer = load_tokenizer(source)
            end = read_openings(source, tokenizer, self._config).end
            reader = CalibrationReader(tokenizer, load_chat_template(source), end)
            rows = rows_from_files(files, reader, tokenizer, self._rows)
            check_vocabulary(rows.tokens, self._config.vocab_size, source, QuantizationError)
            self._progress.advance()
        return rows

    def _calibration(self, rows: CalibrationRows | None) -> CalibrationRows:
        """The rows that were saved, or those from files, or rows the model writes; saved from now on."""
        if self._work.calibration.exists():
            return CalibrationRows.read(self._work.calibration)
        rows = rows or self._rows_from_model()
        rows.save(self._work.calibration)
        return rows

    def _rows_from_model(self) -> CalibrationRows:
        source = self._options.source
        if self._generator is None:
            raise QuantizationError("There is neither a calibration text nor a generator to write one.")
        self._progress.stage("Writing calibration text", 1)
        openings = read_openings(source, load_tokenizer(source), self._config)
        with self._generator as writer:
            rows = rows_from_model(writer, openings, self._rows, self._options.seed)
        check_vocabulary(rows.tokens, self._config.vocab_size, source, QuantizationError)
        self._progress.advance()
        return rows

    def _measurement(self, source: SourceModel, calibration: CalibrationRows) -> Measured:
        """What was saved, or brought along, or is measured now; of the head only where it counts towards the budget."""
        path, given = self._work.measurement, self._options.measurement
        recipe, rows = RECIPES[self._options.recipe], calibration.tokens
        identity = model_identity(Checkpoint.open(self._options.source))
        measured = Measured([], identity)
        if path.exists():
            self._clock.add_saved(self._work.seconds)
            measured = read_measurement(path, source.shapes, identity)
        elif given is not None:
            measured = read_measurement(given, source.shapes, identity)
        choices = measured.choices
        *decoder, head = source.shapes
        wanted = [*decoder, head] if self._options.bpw_total else decoder
        missing = set(wanted) - {name for each in choices for name in each.names}
        if missing or not path.exists():
            with self._clock.stage("measurement"):
                check_rows(source, calibration, self._progress)
                choices = choices or recipe.measure(source, rows, self._progress)
                if head in missing and recipe.measure_head is not None:
                    choices.append(recipe.measure_head(source, rows, self._progress))
            write_measurement(path, Measured(choices, measured.model))
            self._clock.save(self._work.seconds)
        return Measured([each for each in choices if set(each.names) <= set(wanted)], measured.model)


def _backend(options: QuantizeOptions) -> Backend:
    """Plain torch in float32 on any device: Hessians and rounding need the precision."""
    if options.device == CUDA:
        return TorchBackend(CUDA, torch.float32)
    return TorchBackend("cpu", torch.float32, options.threads or usable_cores())
