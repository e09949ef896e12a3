"""What /metrics shows. The names are vLLM's with the prefix `quire_`, so that dashboards port by a replace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.client import EngineClient
from engine.stats import EngineStats
from engine.types import OutputDelta, SamplingParams
from server.observability.histogram import Histogram

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


class Metrics:
    """Every metric of one server, in a registry of its own.

    Args:
        engine: its latest statistics are read when metrics are.
        model_name: label on every metric.
    """

    def __init__(self, engine: EngineClient, model_name: str) -> None:
        self._model_name = model_name
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine, model_name))
        self._success = self._counter("request_success", "Choices that ended, by reason", "finished_reason")
        self._unfinished = self._counter("request_unfinished", "Requests without a complete answer", "cause")
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

    def unfinished(self, cause: str) -> None:
        """Count a request that was `abort`ed by its client, ended in an `error`, or met a `queue_full`."""
        self._unfinished.labels(self._model_name, cause).inc()

    def render(self) -> bytes:
        """The text Prometheus reads."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, doc: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"{PREFIX}{name}", doc, {_LABEL: self._model_name}, buckets)
        self._registry.register(histogram)
        return histogram

    def _counter(self, name: str, doc: str, label: str) -> Counter:
        return Counter(f"{PREFIX}{name}", doc, [_LABEL, label], registry=self._registry)


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
            metrics.unfinished("error" if isinstance(error, Exception) else "abort")


class _EngineCollector(Collector):
    """The engine's own figures, read at the time of the scrape."""

    def __init__(self, engine: EngineClient, model_name: str) -> None:
        self._engine = engine
        self._model_name = model_name

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats
        usage = stats.kv_blocks_used / stats.kv_blocks_total if stats.kv_blocks_total else 0.0
        yield self._gauge("num_requests_running", "Sequences taking part in steps", stats.running)
        yield self._gauge("num_requests_waiting", "Sequences waiting", stats.waiting)
        yield self._waiting_by_reason(stats)
        yield self._gauge("kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1", usage)
        yield self._gauge("engine_healthy", "1 while the engine takes requests", float(self._engine.healthy))
        yield self._counter("prompt_tokens", "Prompt tokens of admitted requests", stats.prompt_tokens_total)
        yield self._counter("generation_tokens", "Tokens sampled", stats.generation_tokens_total)
        yield self._counter("prefix_cache_queries", "Prompt tokens looked up", stats.prefix_cache_queries_total)
        yield self._counter("prefix_cache_hits", "Prompt tokens found in the cache", stats.prefix_cache_hits_total)
        yield self._counter("num_preemptions", "Sequences pushed back", stats.preemptions_total)
        yield self._counter("engine_restarts", "Engine processes started for one that failed", stats.restarts_total)
        yield self._counter("engine_steps", "Steps of the engine", stats.steps_total)
        yield self._cache_info()

    def _waiting_by_reason(self, stats: EngineStats) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            f"{PREFIX}num_requests_waiting_by_reason", "Sequences waiting, by reason", labels=[_LABEL, "reason"]
        )
        for reason, value in (
            ("cache", stats.waiting_for_cache),
            ("batch", stats.waiting_for_batch),
            ("budget", stats.waiting_for_budget),
            ("prompt", stats.waiting_for_prompt),
        ):
            family.add_metric([self._model_name, reason], value)
        return family

    def _cache_info(self) -> InfoMetricFamily:
        model = self._engine.model
        info = InfoMetricFamily(f"{PREFIX}cache_config", "Layout of the KV cache", labels=[_LABEL])
        info.add_metric(
            [self._model_name],
            {
                "block_size": str(model.block_size),
                "num_blocks": str(model.kv_cache_tokens // model.block_size),
                "cache_dtype": model.kv_cache_dtype,
                "bytes": str(model.kv_cache_bytes),
            },
        )
        return info

    def _gauge(self, name: str, doc: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"{PREFIX}{name}", doc, labels=[_LABEL])
        family.add_metric([self._model_name], value)
        return family

    def _counter(self, name: str, doc: str, value: float) -> CounterMetricFamily:
        family = CounterMetricFamily(f"{PREFIX}{name}", doc, labels=[_LABEL])
        family.add_metric([self._model_name], value)
        return family
