"""Sends dumped requests to a server, one after another, several at a time, or as they came."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from engine.errors import InvalidRequestError
from quire.replay.dump_file import Dump
from server.dumps.answers import Answer, read_answer

TIMEOUT = httpx.Timeout(10.0, read=600.0)
MOST_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request this time.

    Attributes:
        status: of the answer; None if the server could not be reached or broke off.
        problem: why, then.
        answer: what it says.
        seconds: how long it took.
    """

    status: int | None
    problem: str
    answer: Answer
    seconds: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests are sent.

    Attributes:
        url: of the server, with or without `/v1` at the end.
        api_key: sent as bearer token; empty sends none.
        model: replaces the model that the requests name; empty leaves it.
    """

    url: str
    api_key: str = ""
    model: str = ""

    def client(self) -> httpx.Client:
        """A client for it.

        Raises:
            InvalidRequestError: URL or key cannot be used.
        """
        if not self.url.startswith(("http://", "https://")):
            raise InvalidRequestError(f"{self.url} is no URL; write it like http://127.0.0.1:8000.")
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        limits = httpx.Limits(max_connections=MOST_AT_A_TIME)
        try:
            return httpx.Client(
                base_url=self.url.rstrip("/").removesuffix("/v1"), headers=headers, timeout=TIMEOUT, limits=limits
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as problem:
            raise InvalidRequestError(f"The URL or the key cannot be used: {problem}.") from None


def send_all(
    dumps: Sequence[Dump], target: Target, *, at_a_time: int = 1, keep_timing: bool = False
) -> Iterator[Outcome]:
    """What becomes of each dump, in their order. They must have a body.

    Args:
        dumps: what to send.
        target: where to.
        at_a_time: most requests in flight.
        keep_timing: send each as long after the first one as it came then, whatever is in flight.
    """
    if not dumps:
        return
    first = min(dump.received for dump in dumps)
    start = time.monotonic()

    def work(dump: Dump) -> Outcome:
        if keep_timing:
            time.sleep(max(start + dump.received - first - time.monotonic(), 0.0))
        return send(client, dump, target.model)

    workers = min(len(dumps), MOST_AT_A_TIME) if keep_timing else at_a_time
    with target.client() as client, ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, dumps)


def send(client: httpx.Client, dump: Dump, model: str) -> Outcome:
    """Send one again and read its answer to the end."""
    body = {**(dump.body or {}), **({"model": model} if model else {})}
    start = time.monotonic()
    try:
        response = client.post(dump.path, json=body)
    except httpx.HTTPError as problem:
        return Outcome(None, str(problem) or type(problem).__name__, Answer(), time.monotonic() - start)
    return Outcome(response.status_code, "", read_answer(response.content), time.monotonic() - start)
