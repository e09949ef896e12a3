"""A quantization job from preflight to report."""

from __future__ import annotations

from contextlib import AbstractContextManager

from engine.model.config import load_config
from quantize.calibration import TextGenerator
from quantize.clock import Clock
from quantize.options import QuantizeOptions, size_name
from quantize.planning import SizePlan, plan_size
from quantize.preflight import check_job
from quantize.preparation import Preparation
from quantize.progress import Progress
from quantize.report import QuantizeReport
from quantize.size_job import SizeJob, publication_begun, publish_model
from quantize.work_directory import WorkDirectory, open_work, work_path

__all__ = ["QuantizeOptions", "QuantizeReport", "plan_model", "quantize_model"]


def quantize_model(
    options: QuantizeOptions, *, progress: Progress, generator: AbstractContextManager[TextGenerator] | None = None
) -> tuple[QuantizeReport, ...]:
    """Quantize a model directory to EXL2, or go on with that where an earlier call was interrupted.

    Args:
        options: what to do.
        progress: is told how far the job is.
        generator: writes calibration text with the source model; needed if no calibration file is named. It is entered
            for the time the writing takes, before the quantizer reads the model itself.

    Returns:
        A report for each size.

    Raises:
        QuantizationError: the job cannot start or go on; the message says why.
        CheckpointError, UnsupportedModelError, TokenizerError: the source cannot be used.
    """
    job = _Job(options, progress, generator)
    with job.opened() as work:
        reports = job.make(work)
        work.remove()
    return reports


def plan_model(
    options: QuantizeOptions, *, progress: Progress, generator: AbstractContextManager[TextGenerator] | None = None
) -> tuple[SizePlan, ...]:
    """Measure a model and say what `quantize_model` would choose, which then needs not measure again.

    Arguments and errors are those of `quantize_model`.
    """
    job = _Job(options, progress, generator)
    with job.opened() as work:
        return job.plan(work)


class _Job:
    """One call of `quantize_model` or `plan_model`."""

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
        self._path = work_path(options)

    def opened(self) -> AbstractContextManager[WorkDirectory]:
        """The work directory, after everything was checked that can be checked before."""
        options = self._options
        with self._clock.stage("preflight"):
            self._progress.stage("Checking the source", 1)
            begun = [bpw for bpw in options.bpw if publication_begun(self._path / size_name(bpw), options.out_of(bpw))]
            check_job(options, self._config, [] if options.restart else begun)
            self._progress.advance()
        return open_work(self._path, restart=options.restart)

    def make(self, work: WorkDirectory) -> tuple[QuantizeReport, ...]:
        """Every size that has not been made and published."""
        options = self._options
        preparation = self._preparation(work)
        rows = preparation.agree()
        prepared = None
        reports = []
        for bpw in options.bpw:
            folder = work.path / size_name(bpw)
            if not publication_begun(folder, options.out_of(bpw)):
                prepared = prepared or preparation.finish(rows)
                SizeJob(options, bpw, prepared, self._progress, self._clock).run(work.size(size_name(bpw)))
            reports.append(publish_model(folder, options.out_of(bpw)))
        return tuple(reports)

    def plan(self, work: WorkDirectory) -> tuple[SizePlan, ...]:
        """What would be chosen."""
        preparation = self._preparation(work)
        prepared = preparation.finish(preparation.agree())
        return tuple(plan_size(self._options, prepared.source, prepared.measured, bpw) for bpw in self._options.bpw)

    def _preparation(self, work: WorkDirectory) -> Preparation:
        return Preparation(self._options, self._config, work, self._generator, self._progress, self._clock)
