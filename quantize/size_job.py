"""Making one size of a model, part by part, from a plan of its widths to the directory it is published as."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from engine.model.config_reader import read_json
from quantize.atomic_file import write_atomically
from quantize.clock import Clock
from quantize.journal import Journal, model_folder
from quantize.model_quantizer import BlockResult, ModelQuantizer, Streams
from quantize.options import QuantizeOptions
from quantize.output_directory import flush_files, publish
from quantize.planning import plan_size
from quantize.preparation import Prepared
from quantize.progress import Progress
from quantize.recipe import RECIPES
from quantize.report import QuantizeReport, quantize_report, read_report
from quantize.report_files import REPORT_FILE, write_report
from quantize.self_check import check_model
from quantize.tuning import Tuned, tune
from quantize.verify import verify
from quantize.work import matrix_work
from quantize.work_directory import MEASUREMENT_FILE
from quantize.writer import write_model

FORMAT_VERSION = "0.3.2"
"""The ExLlamaV2 release whose format this is: what its own converter writes under `version`."""

PUBLICATION_FILE = "published.json"
"""The report once more: it is there before the model is given its name."""


class SizeJob:
    """Makes one size.

    Args:
        options: what to do.
        bpw: bits per weight of this size.
        prepared: the model, its calibration rows and the measurement.
        progress: is told how far it is.
        clock: has the seconds of what came before.
    """

    def __init__(
        self, options: QuantizeOptions, bpw: float, prepared: Prepared, progress: Progress, clock: Clock
    ) -> None:
        self._options = options
        self._bpw = bpw
        self._source = prepared.source
        self._calibration = prepared.calibration
        self._measurement = prepared.measurement
        self._plan = plan_size(options, prepared.source, prepared.measured, bpw)
        self._progress = progress
        self._clock = Clock(clock.seconds)

    def run(self, folder: Path) -> None:
        """Do what is still to be done; behind it, the finished model lies in `folder`. See `publish_model`."""
        journal = Journal(folder)
        if not journal.model.is_dir():
            self._quantize(journal)
            self._write(journal)

    def _quantize(self, journal: Journal) -> None:
        """The parts that are still to be done: embedding, layers, head."""
        source, rows = self._source, self._calibration.tokens
        works = [matrix_work(shape.in_features, shape.out_features, rows.numel()) for shape in source.shapes.values()]
        layers = source.model.config.num_layers
        per_layer = (len(works) - 1) // layers
        self._progress.stage(
            f"Quantizing to {self._bpw:g} bits", sum(works), sum(works[: max(0, journal.done - 1) * per_layer])
        )
        recipe = RECIPES[self._options.recipe]
        quantizer = ModelQuantizer(source, self._plan.plan, recipe, rows.numel(), self._progress)
        while journal.done < layers + 2:
            index = journal.done
            with journal.next_part(last=index == layers + 1) as part:
                streams = Streams.open(part.streams, rows, source.model.config.hidden_size, source.model.backend)
                part.result = self._part(quantizer, index, streams)

    def _part(self, quantizer: ModelQuantizer, index: int, streams: Streams) -> BlockResult:
        if index == 0:
            return quantizer.begin(self._calibration.tokens, streams)
        if index <= self._source.model.config.num_layers:
            return quantizer.layer(index - 1, streams)
        return quantizer.head(streams)

    def _write(self, journal: Journal) -> None:
        """Put the parts together, and make sure that they are read back as they were meant."""
        unfinished = journal.model.with_name("model.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        options = self._options
        digests = {name: digest for part in journal.parts for name, digest in part.digests.items()}
        tensors = journal.tensors()
        if options.tune:
            with self._clock.stage("tuning"):
                tuned = self._tuned(dict(tensors))
            tensors = iter(tuned.tensors.items())
            digests |= tuned.digests
        with self._clock.stage("writing"):
            sizes = write_model(
                unfinished,
                tensors,
                config=self._config(),
                side_files_from=options.source,
                shard_bytes=options.shard_bytes,
            )
        with self._clock.stage("verification"):
            self._progress.stage("Reading back", len(digests))
            verify(unfinished, digests, self._progress, options.ignore_config_keys)
            check = check_model(unfinished, self._source, self._calibration, options, self._progress)
        self._clock.add("quantization", sum(part.seconds for part in journal.parts))
        matrices = [report for part in journal.parts for report in part.reports]
        report = quantize_report(
            options, self._plan, self._calibration, matrices, check, sum(sizes.values()), self._clock.seconds
        )
        write_report(unfinished, report)
        shutil.copyfile(self._measurement, unfinished / MEASUREMENT_FILE)  # for other sizes, later
        flush_files(unfinished)
        unfinished.rename(journal.model)

    def _tuned(self, tensors: Mapping[str, torch.Tensor]) -> Tuned:
        options, rows = self._options, self._calibration.tokens
        return tune(self._source, tensors, rows, options.tune, options.seed, self._progress)

    def _config(self) -> dict[str, object]:
        """The source's config.json with an entry about the quantization."""
        options = self._options
        config = read_json(options.source / "config.json")
        config["intermediate_size"] = self._source.model.config.intermediate_size  # perhaps padded
        config["quantization_config"] = {
            "quant_method": "exl2",
            "version": FORMAT_VERSION,
            "bits": self._bpw,
            "head_bits": self._plan.head_bits,
            "calibration": self._calibration.facts,
        }
        return config


def publish_model(folder: Path, out: Path) -> QuantizeReport:
    """Give the finished model in `folder` its name; may be called again where it was interrupted.

    Raises:
        QuantizationError: it cannot be moved there.
    """
    model, real = model_folder(folder), Path(os.path.realpath(out))
    interrupted = publication_begun(folder, real)
    if not interrupted:
        report = read_report(model / REPORT_FILE)
        write_atomically(folder / PUBLICATION_FILE, report.to_json() + "\n")
    if model.is_dir():
        publish(model, real, interrupted=interrupted)
    report = replace(read_report(folder / PUBLICATION_FILE), out=str(out))
    for path in folder.iterdir():
        if path.name != PUBLICATION_FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return report


def publication_begun(folder: Path, out: Path) -> bool:
    """Whether the model is finished, and lies in `folder`, in `out`, or partly in both."""
    whole = model_folder(folder).is_dir() or (out / REPORT_FILE).exists()
    return whole and (folder / PUBLICATION_FILE).exists()
