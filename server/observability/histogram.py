"""A histogram that is cheap to feed, for what is observed with every token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Histogram(Collector):
    """Counts observations in buckets; made into what Prometheus reads only when it is read.

    The client library's own takes locks and goes through the buckets one by one. This one belongs to an event loop.

    Args:
        name: of the metric.
        doc: what it counts.
        labels: of all its series.
        bounds: largest value of each bucket, rising; the one beyond them all is added.
    """

    def __init__(self, name: str, doc: str, labels: dict[str, str], bounds: Sequence[float]) -> None:
        self._name = name
        self._doc = doc
        self._labels = labels
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        """The metric as of now."""
        family = HistogramMetricFamily(self._name, self._doc, labels=list(self._labels))
        names = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        family.add_metric(list(self._labels.values()), buckets, self._sum)
        yield family
