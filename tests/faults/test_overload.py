"""More is asked than can wait, or than the cache holds: what was accepted is answered all the same, and rightly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.server_process import ServerProcess
from tests.faults.conftest import Serve

QUEUE = 4
ASKING = 40
TOKENS = {"toy": 240, "demo": 500}
"""Of each answer that together are more than the cache holds."""
CACHE = {"toy": 512, "demo": 2048}


def text_of(server: ServerProcess, prompt: int, max_tokens: int) -> str:
    return str(server.complete([prompt], max_tokens=max_tokens).json()["choices"][0]["text"])


def test_what_finds_the_queue_full_is_refused_and_the_rest_is_answered(serve: Serve) -> None:
    limits = {"max_num_seqs": 2, "max_queued_requests": QUEUE}
    with serve(limits) as server, ThreadPoolExecutor(ASKING) as pool:
        expected = {prompt: text_of(server, prompt, 60) for prompt in range(3, 7)}
        prompts = list(expected) * (ASKING // len(expected))
        responses = list(pool.map(lambda prompt: server.complete([prompt], max_tokens=60), prompts))
        both = list(zip(prompts, responses, strict=True))
        answered = [(prompt, each.json()["choices"][0]["text"]) for prompt, each in both if each.status_code == 200]
        refused = [each for each in responses if each.status_code != 200]
        assert len(answered) >= QUEUE
        assert all(text == expected[prompt] for prompt, text in answered)
        assert refused
        for each in refused:
            assert (each.status_code, each.json()["error"]["code"]) == (429, "queue_full")
            assert int(each.headers["retry-after"]) >= 1
        assert server.metric("num_requests_waiting") == server.metric("kv_cache_usage_perc") == 0
        # nobody is counted that has gone: otherwise so many prompts would find no place
        assert server.complete([[5]] * (QUEUE + 1), max_tokens=1).status_code == 200


def test_what_the_cache_cannot_hold_is_put_off_and_computed_again(serve: Serve, kind: str) -> None:
    prompts = range(3, 13)
    with serve({"kv_cache_tokens": CACHE[kind]}, behaviour="toy") as server, ThreadPoolExecutor(10) as pool:
        expected = [text_of(server, prompt, TOKENS[kind]) for prompt in prompts]
        assert server.metric("num_preemptions_total") == 0
        together = list(pool.map(lambda prompt: text_of(server, prompt, TOKENS[kind]), prompts))
        assert together == expected
        assert server.metric("num_preemptions_total") > 0
        assert server.metric("kv_cache_usage_perc") == server.metric("num_requests_running") == 0
        # every block can be had: an answer as long as the cache allows
        assert text_of(server, 3, TOKENS[kind]) == expected[0]
