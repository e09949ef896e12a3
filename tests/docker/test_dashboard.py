"""What the dashboard and Prometheus ask for is what the server exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from engine.stats import EngineStats
from engine.types import FinishReason, SamplingParams
from server.observability.metrics import PREFIX, MetricFamilies, Metrics, ModelFigures
from tests.fakes.engine import MODEL

DOCKER = Path(__file__).resolve().parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/quire.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SCRAPE_LABELS = {"le", "instance", "job"}
"""Labels that come from histograms and from Prometheus itself."""


def exported() -> dict[str, set[str]]:
    """Every sample name on /metrics after one request of each outcome, and its labels."""
    families = MetricFamilies(lambda: [ModelFigures("a-model", EngineStats(), info=MODEL)])
    metrics = Metrics(families, "a-model")
    metrics.finished(FinishReason.STOP.value)
    metrics.unfinished("abort")
    with metrics.request(3, SamplingParams(max_tokens=5)):
        pass
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(families.render().decode())
        for sample in family.samples
    }


def expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for panel in panels:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("title", "expression"), list(expressions(PANELS)))
def test_panels_ask_for_exported_metrics_and_labels(title: str, expression: str) -> None:
    samples = exported()
    names = set(re.findall(rf"\b{PREFIX}\w+", expression))
    assert names
    assert names <= samples.keys()
    labels = set(re.findall(r"(\w+)=~?\"", expression))
    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        labels |= {each.strip() for each in grouping.split(",")}
    for name in names:
        assert labels <= samples[name] | SCRAPE_LABELS


def test_every_legend_names_a_label_of_its_metric() -> None:
    samples = exported()
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                names = re.findall(rf"\b{PREFIX}\w+", target["expr"])
                assert all(label in samples[name] for name in names)


def test_counters_are_shown_as_rates_and_histograms_as_quantiles() -> None:
    for title, expression in expressions(PANELS):
        for name in re.findall(rf"\b{PREFIX}\w+", expression):
            if name.endswith(("_total", "_bucket")):
                assert f"rate({name}" in expression or f"increase({name}" in expression, title
            assert not name.endswith("_bucket") or "histogram_quantile" in expression, title


def test_what_decides_how_long_requests_take_is_shown() -> None:
    shown = " ".join(expression for _, expression in expressions(PANELS))
    for name in (
        *("num_requests_waiting_by_reason", "engine_restarts_total", "num_preemptions_total"),
        *("prefix_cache_hits_total", "request_queue_time_seconds_bucket", "time_to_first_token_seconds_bucket"),
        *("inter_token_latency_seconds_bucket", "request_prefill_time_seconds_bucket"),
    ):
        assert PREFIX + name in shown


def test_the_choice_of_a_model_comes_from_an_exported_label() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
    assert label in exported()[name]


def test_panels_have_ids_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_grafana_is_given_the_source_and_the_folder_the_dashboard_is_in() -> None:
    provisioning = DOCKER / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/quire.yml").read_text())["providers"]
    compose = yaml.safe_load((DOCKER.parent / "docker-compose.yml").read_text())
    volumes = compose["services"]["grafana"]["volumes"]
    assert f"./docker/grafana/dashboards:{provider['options']['path']}:ro" in volumes


def test_prometheus_scrapes_the_servers_with_the_key() -> None:
    (job,) = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    compose = yaml.safe_load((DOCKER.parent / "docker-compose.yml").read_text())
    services = compose["services"]
    (secret,) = services["prometheus"]["secrets"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": f"/run/secrets/{secret}"}
    assert compose["secrets"][secret] == {"environment": "QUIRE_API_KEY"}
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    for name in ("quire", "quire-cpu"):
        assert services[name]["networks"]["default"]["aliases"] == [host]
        assert services[name]["ports"][0].endswith(f":{port}")
