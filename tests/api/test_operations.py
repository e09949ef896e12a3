"""Models, tokens, health, metrics and request ids."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from engine.errors import RequestFailedError
from engine.stats import EngineStats
from engine.types import Timings
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine, always, script

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}


def test_models(make_client: MakeClient) -> None:
    client = make_client(served_model_name=("org/name", "alias"))
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["org/name", "alias"]
    card = client.get("/v1/models/org/name").json()
    assert card == listed["data"][0]
    assert (card["object"], card["owned_by"], card["max_model_len"]) == ("model", "quire", 256)
    assert isinstance(card["created"], int)
    assert card["meta"]["weight_format"] == "exl2"
    assert card["meta"]["n_params"] == 1_234_567
    assert card["meta"]["chat_template"]["system"] == "shown"
    assert card["meta"]["tool_format"] == "generic"


def test_tokenize(client: TestClient) -> None:
    answer = client.post("/tokenize", json={"prompt": "ab"}).json()
    assert answer == {"tokens": [0, 67, 68], "count": 3, "max_model_len": 256}
    bare = client.post("/tokenize", json={"prompt": "ab", "add_special_tokens": False}).json()
    assert bare["tokens"] == [67, 68]
    chat = client.post("/tokenize", json=BODY).json()
    text = client.post("/detokenize", json={"tokens": chat["tokens"]}).json()
    assert text == {"prompt": "<s><user>Hi</s><assistant>"}
    skipped = client.post("/detokenize", json={"tokens": chat["tokens"], "skip_special_tokens": True}).json()
    assert skipped == {"prompt": "<user>Hi<assistant>"}


def test_tokenize_refusals(client: TestClient) -> None:
    assert error_of(client.post("/tokenize", json={}))["param"] == "prompt"
    assert error_of(client.post("/tokenize", json={"prompt": "a", **BODY}))["param"] == "messages"
    assert error_of(client.post("/tokenize", json={"prompt": "a", "model": "x"}), 404)["param"] == "model"
    assert error_of(client.post("/detokenize", json={"tokens": ["a"]}))["param"] == "tokens[0]"
    assert error_of(client.post("/detokenize", json={}))["param"] == "tokens"


def test_detokenize_refuses_what_is_no_token(client: TestClient) -> None:
    assert client.post("/detokenize", json={"tokens": [999]}).status_code == 200
    error = error_of(client.post("/detokenize", json={"tokens": [70, 1000]}))
    assert error["param"] == "tokens[1]"
    assert "0 to 999" in error["message"]


@pytest.mark.parametrize(
    "field",
    [
        {"add_generation_prompt": True},
        {"continue_final_message": False},
        {"chat_template_kwargs": {}},
        {"enable_thinking": False},
        {"reasoning_effort": "none"},
        {"reasoning": {}},
        {"thinking": {"type": "disabled"}},
        {"tools": []},
        {"tool_choice": "none"},
        {"parallel_tool_calls": True},
    ],
)
def test_tokenizing_a_text_refuses_what_is_about_messages(client: TestClient, field: dict[str, Any]) -> None:
    error = error_of(client.post("/tokenize", json={"prompt": "a", **field}))
    assert error["param"] == next(iter(field))
    assert "'messages'" in error["message"]


def test_health(client: TestClient, engine: FakeEngine) -> None:
    def answers() -> list[tuple[int, str]]:
        replies = [client.get(path) for path in ("/health/live", "/health", "/health/ready")]
        return [(reply.status_code, reply.json()["status"]) for reply in replies]

    assert answers() == [(200, "ok")] * 3
    engine.responsive = False
    assert answers() == [(200, "ok")] + [(503, "engine_stalled")] * 2
    engine.healthy = False
    assert answers() == [(200, "ok")] + [(503, "engine_dead")] * 2


def test_health_says_how_the_engine_is(client: TestClient, engine: FakeEngine) -> None:
    engine.stats = EngineStats(running=3, waiting=2, restarts_total=1)
    engine.silent_seconds, engine.last_failure = 1.25, "The engine process has ended unexpectedly (exit code 1)."
    body = client.get("/health").json()
    assert body.pop("uptime_seconds") >= 0
    assert body == {
        "status": "ok",
        "model": "fake-model",
        "loading": None,
        "last_step_seconds": 1.25,
        "running": 3,
        "waiting": 2,
        "restarts": 1,
        "last_failure": "The engine process has ended unexpectedly (exit code 1).",
    }
    assert client.get("/health/live").json() == {"status": "ok"}


def test_health_tells_strangers_the_status_only(make_client: MakeClient) -> None:
    client = make_client(api_key=("key",), metrics_key=("watcher",))
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/health", headers={"x-api-key": "guess"}).json() == {"status": "ok"}
    for key in ("key", "watcher"):
        assert client.get("/health", headers={"x-api-key": key}).json()["model"] == "fake-model"


@pytest.mark.parametrize(
    "path", ["/health", "/health/ready", "/health/live", "/metrics", "/v1/models", "/v1/models/fake-model"]
)
def test_what_is_watched_answers_head_as_it_answers_get(make_client: MakeClient, path: str) -> None:
    client = make_client(api_key=("key",))
    for headers in ({}, {"x-api-key": "key"}):
        assert client.head(path, headers=headers).status_code == client.get(path, headers=headers).status_code
    assert client.head(path, headers={"x-api-key": "key"}).status_code == 200
    assert client.head("/v1/chat/completions", headers={"x-api-key": "key"}).status_code == 405


def test_request_ids(client: TestClient) -> None:
    assert client.get("/health").headers["x-request-id"].startswith("req_")
    assert client.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for insane in ("a b", "x" * 200, "<script>"):
        assert client.get("/health", headers={"x-request-id": insane}).headers["x-request-id"] != insane
    assert client.get("/nothing", headers={"x-request-id": "mine-2"}).headers["x-request-id"] == "mine-2"


def test_documentation_is_there(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    schema = client.get("/openapi.json").json()
    assert {CHAT, "/v1/completions", "/tokenize", "/health", "/metrics"} <= schema["paths"].keys()
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert {"4XX", "5XX"} <= operation["responses"].keys()
            assert "422" not in operation["responses"]
    assert "temperature" in schema["components"]["schemas"]["ChatCompletionRequest"]["properties"]


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Values by name and further labels than the model's."""
    text = client.get("/metrics").text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.name.startswith("quire_")
            assert sample.labels["model_name"] == "fake-model"
            others = sorted(value for name, value in sample.labels.items() if name != "model_name")
            found[(sample.name, *others)] = sample.value
    return found


def test_engine_metrics(client: TestClient, engine: FakeEngine) -> None:
    engine.stats = EngineStats(3, 2, 100, 25, 50, 1000, 400, 1000, 600, 1, waiting_for_cache=1, waiting_for_prompt=1)
    found = samples(client)
    assert found[("quire_num_requests_running",)] == 3
    assert found[("quire_num_requests_waiting",)] == 2
    for reason, count in (("cache", 1), ("batch", 0), ("budget", 0), ("prompt", 1)):
        assert found[("quire_num_requests_waiting_by_reason", reason)] == count
    assert found[("quire_kv_cache_usage_perc",)] == 0.25
    assert found[("quire_prompt_tokens_total",)] == 1000
    assert found[("quire_generation_tokens_total",)] == 400
    assert found[("quire_prefix_cache_queries_total",)] == 1000
    assert found[("quire_prefix_cache_hits_total",)] == 600
    assert found[("quire_num_preemptions_total",)] == 1
    assert found[("quire_engine_steps_total",)] == 50
    assert found[("quire_engine_healthy",)] == 1


def test_request_metrics(client: TestClient, engine: FakeEngine) -> None:
    client.post(CHAT, json={**BODY, "n": 2, "max_tokens": 2})
    client.post(CHAT, json={**BODY, "stream": True})
    engine.failure = RequestFailedError("It failed.")
    client.post(CHAT, json=BODY)
    found = samples(client)
    assert found[("quire_request_success_total", "length")] == 2
    assert found[("quire_request_success_total", "stop")] == 1
    assert found[("quire_request_unfinished_total", "error")] == 1
    assert found[("quire_time_to_first_token_seconds_count",)] == 2
    assert found[("quire_inter_token_latency_seconds_count",)] == 2 + 2
    assert found[("quire_e2e_request_latency_seconds_count",)] == 3
    assert found[("quire_request_generation_tokens_sum",)] == 4 + 3
    assert found[("quire_request_prompt_tokens_count",)] == 3
    assert found[("quire_request_params_n_sum",)] == 4
    assert found[("quire_request_max_num_generation_tokens_sum",)] == 2 + 3
    assert found[("quire_request_params_max_tokens_sum",)] == 2


def test_what_may_happen_is_counted_from_zero_so_that_an_alert_sees_the_first_time(client: TestClient) -> None:
    found = samples(client)
    for cause in ("abort", "error", "queue_full"):
        assert found[("quire_request_unfinished_total", cause)] == 0
    for reason in ("stop", "length"):
        assert found[("quire_request_success_total", reason)] == 0


def test_metrics_of_where_the_time_went(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script("a b c", cached_tokens=4, timings=Timings(0.25, 0.5, 2.0, 1)))
    prompt_tokens = client.post("/v1/completions", json={"prompt": ["ab", "cd"], "n": 2}).json()["usage"][
        "prompt_tokens"
    ]
    found = samples(client)

    def histogram(name: str) -> tuple[float, float]:
        return found[(f"quire_{name}_count",)], found[(f"quire_{name}_sum",)]

    assert histogram("request_queue_time_seconds") == (2, 2 * 0.25)
    assert histogram("request_prefill_time_seconds") == (2, 2 * 0.5)
    assert histogram("request_decode_time_seconds") == (4, 4 * 2.0)
    assert histogram("request_inference_time_seconds") == (4, 4 * 2.5)
    assert histogram("request_time_per_output_token_seconds") == (4, 4 * 1.0)
    assert histogram("request_prefill_kv_computed_tokens") == (1, prompt_tokens - 2 * 4)


def test_servers_do_not_share_metrics(make_client: MakeClient) -> None:
    one, other = make_client(), make_client()
    one.post(CHAT, json=BODY)
    assert samples(one)[("quire_request_success_total", "stop")] == 1
    assert samples(other)[("quire_request_success_total", "stop")] == 0
