from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as ClientHistogram

from server.observability.histogram import HistogramFamily

BOUNDS = (0.001, 0.5, 1.0, 100000.0)


@given(st.lists(st.floats(0, 1e6) | st.sampled_from(BOUNDS)))
def test_it_shows_what_the_client_library_would(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = HistogramFamily("quire_test", "Just a test", "model_name", BOUNDS)
    histogram = family.of("m")
    ours.register(family)
    client = ClientHistogram("quire_test", "Just a test", ["model_name"], registry=theirs, buckets=BOUNDS).labels("m")
    for value in values:
        histogram.observe(value)
        client.observe(value)
    assert shown(ours) == shown(theirs)


def shown(registry: CollectorRegistry) -> list[str]:
    """The exposition, without the moment at which the library made its metric."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
