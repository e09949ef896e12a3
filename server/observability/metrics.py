"""What /metrics shows. The names are vLLM's with the prefix `quire_`, so that dashboards port by a replace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.errors import RequestCancelledError
from engine.stats import EngineStats
from engine.types import FinishReason, ModelInfo, OutputDelta, SamplingParams
from server.observability.histogram import Histogram, HistogramFamily

PREFIX = "quire_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_INTER_TOKEN_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_LATENCY_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_COUNT_BUCKETS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5))
_LABEL = "model_name"

Cause = Literal["abort", "error", "queue_full"]
"""Why a request has no complete answer: its client went away, it ended in an error, or too much waited."""


class ModelFigures(NamedTuple):
    """What metrics show of a model besides its requests.

    Attributes:
        name: label on every metric of it.
        stats: of its engine; the counters of all its engines.
        waiting_for_model: requests that wait until it is loaded; not part of `stats`.
        available: whether requests are taken.
        loaded: whether it is loaded.
        info: what it is, or was when it was loaded last.
        loads, failed_loads: how often it was loaded, and could not be.
    """

    name: str
    stats: EngineStats
    waiting_for_model: int = 0
    available: bool = True
    loaded: bool = True
    info: ModelInfo | None = None
    loads: int = 0
    failed_loads: int = 0


class MetricFamilies:
    """Every metric of one server, in a registry of its own.

    Args:
        models: the figures of all its models, asked for when metrics are read.
    """

    def __init__(self, models: Callable[[], Sequence[ModelFigures]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(models))
        self._histograms: dict[str, HistogramFamily] = {}
        self._counters: dict[str, Counter] = {}

    def histogram(self, name: str, doc: str, buckets: tuple[float, ...]) -> HistogramFamily:
        """The histogram of this name, made when it is first asked for."""
        if name not in self._histograms:
            self._histograms[name] = HistogramFamily(f"{PREFIX}{name}", doc, _LABEL, buckets)
            self._registry.register(self._histograms[name])
        return self._histograms[name]

    def counter(self, name: str, doc: str, label: str) -> Counter:
        """The counter of this name, made when it is first asked for."""
        if name not in self._counters:
            self._counters[name] = Counter(f"{PREFIX}{name}", doc, [_LABEL, label], registry=self._registry)
        return self._counters[name]

    def render(self) -> bytes:
        """The text Prometheus reads."""
        return generate_latest(self._registry)


class Metrics:
    """What is measured of the requests of one model.

    Args:
        families: of the server.
        model_name: label on every metric.
    """

    def __init__(self, families: MetricFamilies, model_name: str) -> None:
        self._model_name = model_name
        self._families = families
        self._success = self._counter("request_success", "Choices that ended, by reason", "finished_reason")
        self._unfinished = self._counter("request_unfinished", "Requests without a complete answer", "cause")
        # an alert on a counter's rise misses the rise that brings the counter into being
        for reason in FinishReason:
            self._success.labels(model_name, reason.value)
        for cause in get_args(Cause):
            self._unfinished.labels(model_name, cause)
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From admission to the first token", _FIRST_TOKEN_BUCKETS
        )
        self.inter_token = self._histogram(
            "inter_token_latency_seconds", "Between tokens of one choice", _INTER_TOKEN_BUCKETS
        )
        self.end_to_end = self._histogram(
            "e2e_request_latency_seconds", "From admission to the end of the answer", _LATENCY_BUCKETS
        )
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "Of a prompt, from the engine's inbox to its first step", _LATENCY_BUCKETS
        )
        self.prefill_time = self._histogram(
            "request_prefill_time_seconds", "Of a prompt, from its first step to its first token", _LATENCY_BUCKETS
        )
        self.decode_time = self._histogram(
            "request_decode_time_seconds", "Of a choice, from its first token to its last", _LATENCY_BUCKETS
        )
        self.inference_time = self._histogram(
            "request_inference_time_seconds", "Of a choice, from its first step to its last token", _LATENCY_BUCKETS
        )
        self.time_per_token = self._histogram(
            "request_time_per_output_token_seconds",
            "Of a choice, its decode time by its tokens after the first",
            _INTER_TOKEN_BUCKETS,
        )
        self.prompt_tokens = self._histogram("request_prompt_tokens", "Prompt tokens per request", _COUNT_BUCKETS)
        self.generation_tokens = self._histogram(
            "request_generation_tokens", "Tokens answered per request", _COUNT_BUCKETS
        )
        self.longest_choice = self._histogram(
            "request_max_num_generation_tokens", "Tokens of the longest choice per request", _COUNT_BUCKETS
        )
        self.computed_tokens = self._histogram(
            "request_prefill_kv_computed_tokens", "Prompt tokens per request that were not cached", _COUNT_BUCKETS
        )
        self.params_n = self._histogram("request_params_n", "Choices asked for", _COUNT_BUCKETS)
        self.params_max_tokens = self._histogram(
            "request_params_max_tokens", "max_tokens asked for, where given", _COUNT_BUCKETS
        )

    def request(self, prompt_tokens: int, sampling: SamplingParams) -> RequestMetrics:
        """A recorder for one HTTP request."""
        return RequestMetrics(self, prompt_tokens, sampling)

    def finished(self, reason: str) -> None:
        """Count a choice that ended with `reason`."""
        self._success.labels(self._model_name, reason).inc()

    def unfinished(self, cause: Cause) -> None:
        """Count a request without a complete answer."""
        self._unfinished.labels(self._model_name, cause).inc()

    def _histogram(self, name: str, doc: str, buckets: tuple[float, ...]) -> Histogram:
        return self._families.histogram(name, doc, buckets).of(self._model_name)

    def _counter(self, name: str, doc: str, label: str) -> Counter:
        return self._families.counter(name, doc, label)


class RequestMetrics:
    """Follows one HTTP request from admission to its end: a context manager around the reading of its deltas.

    Attributes:
        longest_gap: seconds of the longest silence within a choice so far; None before a second delta of one.
    """

    def __init__(self, metrics: Metrics, prompt_tokens: int, sampling: SamplingParams) -> None:
        self._metrics = metrics
        self._prompt_tokens = prompt_tokens
        self._sampling = sampling
        self._start = time.perf_counter()
        self._cached = 0
        self._tokens: dict[int, int] = {}  # of each choice
        self._latest: dict[int, float] = {}
        self.longest_gap: float | None = None

    def __enter__(self) -> RequestMetrics:
        self._start = time.perf_counter()
        return self

    def on_delta(self, choice: int, delta: OutputDelta) -> None:
        """Record the arrival of a delta of a choice."""
        if delta.token_ids:
            now = time.perf_counter()
            if not self._latest:
                self._metrics.first_token.observe(now - self._start)
            latest = self._latest.get(choice)
            if latest is not None:
                gap = now - latest
                self.longest_gap = max(self.longest_gap or 0.0, gap)
                self._metrics.inter_token.observe(gap / len(delta.token_ids))
            self._latest[choice] = now
            self._tokens[choice] = self._tokens.get(choice, 0) + len(delta.token_ids)
        if delta.finish is not None:
            self._metrics.finished(delta.finish.reason.value)
            self._on_end(choice, delta)

    def _on_end(self, choice: int, delta: OutputDelta) -> None:
        """Record what the engine says about a choice that has ended. The first of a prompt speaks for the prompt."""
        metrics, timings = self._metrics, delta.timings
        if delta.choice == 0:
            self._cached += delta.cached_tokens
        if timings is None:
            return
        if delta.choice == 0:
            metrics.queue_time.observe(timings.queue)
            metrics.prefill_time.observe(timings.prefill)
        metrics.decode_time.observe(timings.decode)
        metrics.inference_time.observe(timings.prefill + timings.decode)
        following = self._tokens.get(choice, 0) - 1
        if following > 0:
            metrics.time_per_token.observe(timings.decode / following)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        metrics = self._metrics
        metrics.end_to_end.observe(time.perf_counter() - self._start)
        metrics.prompt_tokens.observe(self._prompt_tokens)
        metrics.generation_tokens.observe(sum(self._tokens.values()))
        metrics.longest_choice.observe(max(self._tokens.values(), default=0))
        metrics.params_n.observe(self._sampling.n)
        if self._sampling.max_tokens is not None:
            metrics.params_max_tokens.observe(self._sampling.max_tokens)
        if error is None:
            metrics.computed_tokens.observe(self._prompt_tokens - self._cached)
        else:
            wanted = isinstance(error, RequestCancelledError) or not isinstance(error, Exception)
            metrics.unfinished("abort" if wanted else "error")


class _EngineCollector(Collector):
    """The engines' own figures, read at the time of the scrape."""

    def __init__(self, models: Callable[[], Sequence[ModelFigures]]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        models = self._models()
        for name, doc, value in _GAUGES:
            gauge = GaugeMetricFamily(f"{PREFIX}{name}", doc, labels=[_LABEL])
            for model in models:
                gauge.add_metric([model.name], value(model))
            yield gauge
        for name, doc, value in _COUNTERS:
            counter = CounterMetricFamily(f"{PREFIX}{name}", doc, labels=[_LABEL])
            for model in models:
                counter.add_metric([model.name], value(model))
            yield counter
        yield _waiting_by_reason(models)
        yield _cache_info(models)


_Figures = tuple[tuple[str, str, Callable[[ModelFigures], float]], ...]

_GAUGES: _Figures = (
    ("num_requests_running", "Sequences taking part in steps", lambda model: model.stats.running),
    ("num_requests_waiting", "Sequences waiting", lambda model: model.stats.waiting + model.waiting_for_model),
    (
        "kv_cache_usage_perc",
        "Share of the KV cache in use, 0 to 1",
        lambda model: model.stats.kv_blocks_used / (model.stats.kv_blocks_total or 1),
    ),
    ("engine_healthy", "1 while requests are taken", lambda model: model.available),
    ("model_loaded", "1 while the model is loaded", lambda model: model.loaded),
)

_COUNTERS: _Figures = (
    ("prompt_tokens", "Prompt tokens of admitted requests", lambda model: model.stats.prompt_tokens_total),
    ("generation_tokens", "Tokens sampled", lambda model: model.stats.generation_tokens_total),
    ("prefix_cache_queries", "Prompt tokens looked up", lambda model: model.stats.prefix_cache_queries_total),
    ("prefix_cache_hits", "Prompt tokens found in the cache", lambda model: model.stats.prefix_cache_hits_total),
    ("num_preemptions", "Sequences pushed back", lambda model: model.stats.preemptions_total),
    ("engine_restarts", "Engine processes started for one that failed", lambda model: model.stats.restarts_total),
    ("engine_steps", "Steps of the engine", lambda model: model.stats.steps_total),
    ("model_loads", "Times the model was loaded, restarts not counted", lambda model: model.loads),
    ("model_load_failures", "Times the model could not be loaded", lambda model: model.failed_loads),
)


def _waiting_by_reason(models: Sequence[ModelFigures]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        f"{PREFIX}num_requests_waiting_by_reason", "Sequences waiting, by reason", labels=[_LABEL, "reason"]
    )
    for model in models:
        for reason, value in (
            ("cache", model.stats.waiting_for_cache),
            ("batch", model.stats.waiting_for_batch),
            ("budget", model.stats.waiting_for_budget),
            ("prompt", model.stats.waiting_for_prompt),
            ("grammar", model.stats.waiting_for_grammar),
            ("model", model.waiting_for_model),
        ):
            family.add_metric([model.name, reason], value)
    return family


def _cache_info(models: Sequence[ModelFigures]) -> InfoMetricFamily:
    family = InfoMetricFamily(f"{PREFIX}cache_config", "Layout of the KV cache", labels=[_LABEL])
    for name, info in ((model.name, model.info) for model in models if model.loaded):
        if info is not None:
            family.add_metric(
                [name],
                {
                    "block_size": str(info.block_size),
                    "num_blocks": str(info.kv_cache_tokens // info.block_size),
                    "cache_dtype": info.kv_cache_dtype,
                    "bytes": str(info.kv_cache_bytes),
                },
            )
    return family
