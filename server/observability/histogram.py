"""A histogram that is cheap to feed, for what is observed with every token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Histogram:
    """Counts observations in buckets. Belongs to an event loop; the client library's own takes locks.

    Args:
        bounds: largest value of each bucket, rising; the one beyond them all is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what has been counted to a metric, under these labels."""
        names = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        family.add_metric(labels, buckets, self._sum)


class HistogramFamily(Collector):
    """Histograms of one name, told apart by a label; made into what Prometheus reads only when it is read.

    Args:
        name: of the metric.
        doc: what it counts.
        label: name of the label.
        bounds: as for `Histogram`.
    """

    def __init__(self, name: str, doc: str, label: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._doc = doc
        self._label = label
        self._bounds = bounds
        self._histograms: dict[str, Histogram] = {}

    def of(self, value: str) -> Histogram:
        """The histogram whose label has this value."""
        return self._histograms.setdefault(value, Histogram(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """The metric as of now."""
        family = HistogramMetricFamily(self._name, self._doc, labels=[self._label])
        for value, histogram in self._histograms.items():
            histogram.add_to(family, [value])
        yield family
