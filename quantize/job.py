"""A quantization job from preflight to report."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import torch

from engine.errors import ConfigError, QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.backend import Backend
from engine.ops.cpu_count import usable_cores
from engine.ops.torch_backend import TorchBackend
from engine.text.tokenizer import load_tokenizer
from quantize.calibration import CalibrationRows, TextGenerator, rows_from_model, rows_from_text
from quantize.clock import Clock
from quantize.exl2.allocate import Choices
from quantize.job_settings import job_settings
from quantize.measurement_file import read_measurement, write_measurement
from quantize.memory import row_length
from quantize.openings import read_openings
from quantize.options import QuantizeOptions
from quantize.preflight import check_job, check_values
from quantize.progress import Progress
from quantize.recipe import RECIPES
from quantize.report import QuantizeReport
from quantize.size_job import SizeJob, publication_begun, publish_model
from quantize.source_model import SourceModel, open_source
from quantize.text_windows import check_vocabulary
from quantize.work_directory import WorkDirectory, open_work, work_path

__all__ = ["QuantizeOptions", "QuantizeReport", "quantize_model"]


def quantize_model(
    options: QuantizeOptions, *, progress: Progress, generator: AbstractContextManager[TextGenerator] | None = None
) -> QuantizeReport:
    """Quantize a model directory to EXL2, or go on with that where an earlier call was interrupted.

    Args:
        options: what to do.
        progress: is told how far the job is.
        generator: writes calibration text with the source model; needed if `options.text` is None. It is entered for
            the time the writing takes, before the quantizer loads the model itself.

    Raises:
        QuantizationError: the job cannot start or go on; the message says why.
        CheckpointError, UnsupportedModelError, TokenizerError: the source cannot be used.
    """
    return _Job(options, progress, generator).run()


class _Job:
    """One call of `quantize_model`."""

    def __init__(
        self,
        options: QuantizeOptions,
        progress: Progress,
        generator: AbstractContextManager[TextGenerator] | None,
    ) -> None:
        self._options = options
        self._progress = progress
        self._generator = generator
        self._clock = Clock()
        self._config = load_config(options.source, options.ignore_config_keys)

    def run(self) -> QuantizeReport:
        """Do it."""
        options = self._options
        path = work_path(options.out)
        folder = path / f"{options.bpw:g}bpw"
        if options.restart or not publication_begun(folder):
            self._preflight()
        with open_work(path, restart=options.restart) as work:
            self._work(work, folder)
            report = publish_model(folder, options.out)
            work.remove()
        return report

    def _preflight(self) -> None:
        with self._clock.stage("preflight"):
            self._progress.stage("Checking the source", 1)
            check_job(self._options, self._config)
            self._progress.advance()

    def _work(self, work: WorkDirectory, folder: Path) -> None:
        """Everything up to the finished model in `folder`, as far as it has not been done before."""
        options = self._options
        rows = None if work.calibration.exists() else self._rows_from_text()
        with self._clock.stage("preflight"):
            fingerprint = check_values(options.source, self._progress)
        work.agree(job_settings(options, self._config, fingerprint))
        if publication_begun(folder):
            return
        with self._clock.stage("calibration"):
            calibration = self._calibration(work, rows)
        length = calibration.tokens.shape[1]
        backend = _backend(options)
        source = open_source(Checkpoint.open(options.source), self._config, backend, length, work.scratch)
        choices = self._measurement(work, source, calibration)
        folder.mkdir(exist_ok=True)
        SizeJob(options, source, calibration, choices, self._progress, self._clock).run(folder)

    def _rows_from_text(self) -> CalibrationRows | None:
        """Rows of the text given, if one is; so early because a text that will not do is best found at once."""
        options = self._options
        if options.text is None:
            return None
        with self._clock.stage("calibration"):
            self._progress.stage("Preparing calibration text", 1)
            tokenizer = load_tokenizer(options.source)
            rows = rows_from_text(options.text, tokenizer, options.rows, row_length(options, self._config))
            check_vocabulary(rows.tokens, self._config.vocab_size, options.source, QuantizationError)
            self._progress.advance()
        return rows

    def _calibration(self, work: WorkDirectory, rows: CalibrationRows | None) -> CalibrationRows:
        """The rows that were saved, or those from the text, or rows the model writes; saved from now on."""
        if work.calibration.exists():
            return CalibrationRows.read(work.calibration)
        rows = rows or self._rows_from_model()
        rows.save(work.calibration)
        return rows

    def _rows_from_model(self) -> CalibrationRows:
        options = self._options
        if self._generator is None:
            raise QuantizationError("There is neither a calibration text nor a generator to write one.")
        self._progress.stage("Writing calibration text", 1)
        openings = read_openings(options.source, load_tokenizer(options.source), self._config)
        with self._generator as writer:
            rows = rows_from_model(writer, openings, options.rows, row_length(options, self._config), options.seed)
        check_vocabulary(rows.tokens, self._config.vocab_size, options.source, QuantizationError)
        self._progress.advance()
        return rows

    def _measurement(self, work: WorkDirectory, source: SourceModel, calibration: CalibrationRows) -> list[Choices]:
        if work.measurement.exists():
            self._clock.add_saved(work.seconds)
            return read_measurement(work.measurement)
        options = self._options
        with self._clock.stage("measurement"):
            recipe, rows = RECIPES[options.recipe], calibration.tokens
            choices = recipe.measure(source, rows, self._progress)
            if options.bpw_total and recipe.measure_head is not None:
                choices.append(recipe.measure_head(source, rows, self._progress))
        write_measurement(work.measurement, choices)
        self._clock.save(work.seconds)
        return choices


def _backend(options: QuantizeOptions) -> Backend:
    """Plain torch in float32 on any device: Hessians and rounding need the precision."""
    if options.device != "cuda":
        return TorchBackend("cpu", torch.float32, options.threads or usable_cores())
    if not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no CUDA device here; set it to 'cpu' or 'auto'.")
    return TorchBackend("cuda", torch.float32)
