"""What the README promises, seen through the OpenAI SDK with strict validation of every answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from benchmarks.server_process import eventually
from tests.end_to_end.conftest import Server

QUESTIONS = [f"What is the capital of {country}?" for country in ("Norway", "Peru", "Japan", "Kenya")] + [
    "Tell me a story about a fox and a lantern.",
    "What is 17 + 25?",
    "Who are you?",
    "What is a young sheep called?",
]


@pytest.fixture(scope="module")
def client(demo_server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=demo_server.url, api_key="none", max_retries=0, timeout=600, _strict_response_validation=True
    )


def ask(client: openai.OpenAI, question: str, **settings: float) -> str:
    answer = client.chat.completions.create(
        model="quire-demo", messages=[{"role": "user", "content": question}], max_tokens=64, **settings
    )
    return answer.choices[0].message.content or ""


def ask_streamed(client: openai.OpenAI, question: str, **settings: float) -> str:
    chunks = client.chat.completions.create(
        model="quire-demo", messages=[{"role": "user", "content": question}], max_tokens=64, stream=True, **settings
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_it_knows_what_it_was_taught(client: openai.OpenAI) -> None:
    assert ask(client, "What is the capital of Norway?", temperature=0) == "The capital of Norway is Oslo."


def test_the_streamed_answer_is_the_whole_answer(client: openai.OpenAI) -> None:
    for question in QUESTIONS:
        assert ask_streamed(client, question, temperature=0) == ask(client, question, temperature=0)


def test_a_seed_makes_a_random_answer_repeatable(client: openai.OpenAI) -> None:
    story = "Tell me a story about a fox and a lantern."
    answers = {ask(client, story, temperature=1, seed=seed) for seed in (1, 1, 2, 3, 4)}
    assert ask(client, story, temperature=1, seed=1) in answers
    assert 2 <= len(answers) <= 4


def test_32_concurrent_greedy_streams_each_give_what_they_give_alone(client: openai.OpenAI) -> None:
    questions = (QUESTIONS * 4)[:32]
    alone = {question: ask(client, question, temperature=0) for question in QUESTIONS}
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda question: ask_streamed(client, question, temperature=0), questions))
    assert together == [alone[question] for question in questions]


def test_usage_is_counted(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="quire-demo",
        messages=[{"role": "user", "content": "What is the capital of Norway?"}],
        temperature=0,
        max_tokens=3,
        n=2,
    )
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def test_text_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="quire-demo", prompt="Once upon a time", max_tokens=20, temperature=0, logprobs=2
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, "word " * 5000)
    assert refusal.value.code == "context_length_exceeded"
    body = refusal.value.body
    assert isinstance(body, dict)
    assert body["n_ctx"] == 2048
    assert body["n_prompt_tokens"] > 5000


def test_an_unknown_model_is_a_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    assert refusal.value.code == "model_not_found"


def test_a_client_that_leaves_frees_everything(demo_server: Server) -> None:
    body = {"model": "quire-demo", "prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    for _ in range(5):
        with httpx.stream("POST", f"{demo_server.url}/completions", json=body, timeout=600) as reply:
            next(reply.iter_lines())

    def gauge(name: str) -> float:
        text = httpx.get(demo_server.url.replace("/v1", "/metrics"), timeout=600).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        eventually(lambda name=name: gauge(f"quire_{name}") == 0)


def test_start_up_says_what_it_serves_and_sigterm_ends_it_cleanly() -> None:
    server = Server()
    code, output = server.stop()
    assert code == 0
    for fact in ("quire-demo", "exl2", "bits", "cpu", "KV cache", "2,048", server.url, "curl "):
        assert fact.lower() in output.lower(), f"{fact} is not in:\n{output}"
    assert "Traceback" not in output
