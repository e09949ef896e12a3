"""A quantization job from preflight to report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from engine.errors import QuantizationError
from engine.model.config import ModelConfig, load_config
from engine.model.config_reader import read_json
from engine.ops.select import select_backend
from engine.text.tokenizer import load_tokenizer
from quantize.calibration import CalibrationRows, TextGenerator, rows_from_model, rows_from_text
from quantize.exl2.allocate import plan_of
from quantize.exl2.head import head_groups
from quantize.exl2.layout import Group
from quantize.memory import row_length
from quantize.model_quantizer import ModelQuantizer
from quantize.openings import read_openings
from quantize.options import QuantizeOptions
from quantize.output_directory import output_directory
from quantize.preflight import check_job, check_values
from quantize.progress import Progress
from quantize.recipe import RECIPES
from quantize.report import MatrixReport, QuantizeReport
from quantize.source_model import SourceModel, open_source
from quantize.text_windows import check_vocabulary
from quantize.verify import verify
from quantize.writer import write_model

__all__ = ["QuantizeOptions", "QuantizeReport", "quantize_model"]

FORMAT_VERSION = "0.3.2"
"""The ExLlamaV2 release whose format this is: what its own converter writes under `version`."""


def quantize_model(
    options: QuantizeOptions, *, progress: Progress, generator: AbstractContextManager[TextGenerator] | None = None
) -> QuantizeReport:
    """Quantize a model directory to EXL2.

    Args:
        options: what to do.
        progress: is told how far the job is.
        generator: writes calibration text with the source model; needed if `options.text` is None. It is entered for
            the time the writing takes, before the quantizer loads the model itself.

    Raises:
        QuantizationError: the job cannot start or go on; the message says why.
        CheckpointError, UnsupportedModelError, TokenizerError: the source cannot be used.
    """
    clock = _Clock()
    with clock.stage("preflight"):
        progress.stage("Checking the source", 1)
        config = load_config(options.source, options.ignore_config_keys)
        check_job(options, config)
        progress.advance()
    with output_directory(options.out) as folder:
        with clock.stage("calibration"):
            calibration = _calibrate(options, config, progress, generator)
        with clock.stage("loading"):
            check_values(options.source, progress)
            backend = select_backend("cpu", "torch", options.threads)
            source = open_source(options.source, config, backend, calibration.tokens.shape[1])
        with clock.stage("measurement"):
            plan = _plan(options, source, calibration, progress)
        progress.stage("Quantizing", len(plan))
        quantizer = ModelQuantizer(source, calibration.tokens, plan, RECIPES[options.recipe], progress)
        with clock.stage("quantization"):
            sizes = write_model(
                folder,
                quantizer.tensors(),
                config=_quantized_config(options, calibration),
                side_files_from=options.source,
                shard_bytes=options.shard_bytes,
            )
        with clock.stage("verification"):
            progress.stage("Reading back", len(plan))
            verify(folder, quantizer.digests, progress, options.ignore_config_keys)
    return _report(options, calibration, quantizer.reports, sum(sizes.values()), clock.seconds)


def _calibrate(
    options: QuantizeOptions,
    config: ModelConfig,
    progress: Progress,
    generator: AbstractContextManager[TextGenerator] | None,
) -> CalibrationRows:
    progress.stage("Preparing calibration text", 1)
    tokenizer = load_tokenizer(options.source)
    length = row_length(options, config)
    if options.text is not None:
        rows = rows_from_text(options.text, tokenizer, options.rows, length)
    elif generator is not None:
        openings = read_openings(options.source, tokenizer, config)
        with generator as writer:
            rows = rows_from_model(writer, openings, options.rows, length, options.seed)
    else:
        raise QuantizationError("There is neither a calibration text nor a generator to write one.")
    check_vocabulary(rows.tokens, config.vocab_size, options.source, QuantizationError)
    progress.advance()
    return rows


def _plan(
    options: QuantizeOptions, source: SourceModel, calibration: CalibrationRows, progress: Progress
) -> dict[str, tuple[Group, ...]]:
    """Groups of every matrix, within the budget."""
    head = source.model.head
    progress.stage("Measuring", len(source.shapes) - 1)
    recipe = RECIPES[options.recipe]
    choices = recipe.measure(source, calibration.tokens, options.bpw, progress)
    plan = plan_of(choices, recipe.allocate(choices, options.bpw, options.seed))
    plan[head.prefix] = head_groups(head.in_features, options.head_bits)
    return plan


def _quantized_config(options: QuantizeOptions, calibration: CalibrationRows) -> dict[str, object]:
    """The source's config.json with an entry about the quantization."""
    config = read_json(options.source / "config.json")
    config["quantization_config"] = {
        "quant_method": "exl2",
        "version": FORMAT_VERSION,
        "bits": options.bpw,
        "head_bits": options.head_bits,
        "calibration": _calibration_facts(calibration),
    }
    return config


def _calibration_facts(calibration: CalibrationRows) -> dict[str, int | str]:
    rows, length = calibration.tokens.shape
    return {"rows": rows, "length": length, "dataset": calibration.dataset}


def _report(
    options: QuantizeOptions,
    calibration: CalibrationRows,
    matrices: list[MatrixReport],
    weight_bytes: int,
    seconds: dict[str, float],
) -> QuantizeReport:
    *decoder, head = matrices
    weights = sum(matrix.in_features * matrix.out_features for matrix in decoder)
    bits = sum(matrix.in_features * matrix.out_features * matrix.bits_per_weight for matrix in decoder)
    return QuantizeReport(
        source=str(options.source),
        out=str(options.out),
        bpw_requested=options.bpw,
        bpw=bits / weights,
        head_bits=options.head_bits,
        head_bpw=head.bits_per_weight,
        weight_bytes=weight_bytes,
        calibration=_calibration_facts(calibration),
        matrices=tuple(matrices),
        warnings=_warnings(calibration, matrices),
        seconds=seconds,
    )


def _warnings(calibration: CalibrationRows, matrices: list[MatrixReport]) -> tuple[str, ...]:
    warnings = [
        f"The Hessian of {matrix.name} had to be damped {matrix.damping_steps} times; its inputs are nearly singular."
        for matrix in matrices
        if matrix.damping_steps > 1
    ]
    tokens, widest = calibration.tokens.numel(), max(matrix.in_features for matrix in matrices)
    if tokens < 2 * widest:
        warnings.append(
            f"The calibration has only {tokens} tokens for matrices of {widest} inputs; more rows give better models."
        )
    return tuple(warnings)


class _Clock:
    """Seconds that named stages take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens while the context is open."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
