"""Score a served model on the demo model's held-out prompts, through the HTTP API.

    python -m demo.evaluate [--url http://127.0.0.1:8000/v1] [--limit N] [--show] [--json]

Answers are greedy. Prompts without tools go to the chat endpoint; those with tools are rendered here with the demo
model's template and go to the completions endpoint, since the raw text of a call is what is scored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from demo.scoring import Score, measures, totals
from engine.text.chat_template import ChatTemplate, load_chat_template

HERE = Path(__file__).parent
PROMPTS = HERE / "eval.jsonl"
MODEL = HERE / "quire-demo"
THINK = {"role": "system", "content": "Think first."}
CONCURRENCY = 32
MAX_TOKENS = 300


class Examiner:
    """Asks a server the held-out questions, several at a time.

    Args:
        client: bound to the server's `/v1` URL.
        model: name the server knows the model by.
        template: of the demo model, for prompts with tools.
    """

    def __init__(self, client: httpx.AsyncClient, model: str, template: ChatTemplate) -> None:
        self._client = client
        self._settings = {"model": model, "temperature": 0, "max_tokens": MAX_TOKENS}
        self._template = template
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def answer(self, item: Mapping[str, Any]) -> str:
        """The model's whole answer to one item."""
        async with self._slots:
            if item["tools"]:
                prompt = self._template.render(item["messages"], tools=item["tools"])
                reply = await self._client.post("completions", json={**self._settings, "prompt": prompt})
                reply.raise_for_status()
                return str(reply.json()["choices"][0]["text"])
            body = {
                **self._settings,
                "messages": item["messages"],
                "reasoning_format": "none",
            }  # the text as it was written
            reply = await self._client.post("chat/completions", json=body)
            reply.raise_for_status()
            return str(reply.json()["choices"][0]["message"]["content"])

    async def score(self, item: Mapping[str, Any]) -> tuple[dict[str, bool], str]:
        """The measures of one item, sums also with thinking; and the plain answer."""
        answer = await self.answer(item)
        met = measures(item, answer)
        if item["kind"] == "sum":
            thought = await self.answer({**item, "messages": [THINK, *item["messages"]]})
            met["sum: exact, thinking first"] = thought.endswith(f"</think>\n\n{item['expected']}")
        return met, answer


def items(limit: int) -> list[dict[str, Any]]:
    """The first `limit` prompts of each kind."""
    seen: dict[str, int] = {}
    chosen = []
    for line in PROMPTS.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        seen[item["kind"]] = seen.get(item["kind"], 0) + 1
        if seen[item["kind"]] <= limit:
            chosen.append(item)
    return chosen


async def examine(url: str, *, limit: int = 1000, show: bool = False) -> dict[str, Score]:
    """Score the model served at `url` (ending in `/v1`).

    Raises:
        httpx.HTTPError: the server is not there, or refuses a request.
        FileNotFoundError: the demo model's template is not in the tree.
    """
    template = load_chat_template(MODEL)
    if template is None:
        raise FileNotFoundError(f"{MODEL} has no chat template.")
    async with httpx.AsyncClient(base_url=f"{url.rstrip('/')}/", timeout=600.0) as client:
        model = (await client.get("models")).raise_for_status().json()["data"][0]["id"]
        examiner = Examiner(client, model, template)
        questions = items(limit)
        scored = await asyncio.gather(*(examiner.score(item) for item in questions))
    if show:
        for item, (met, answer) in zip(questions, scored, strict=True):
            for measure in (name for name, right in met.items() if not right):
                print(f"- {measure}\n  asked:    {item['messages'][-1]['content']}")
                print(f"  expected: {item['expected']}\n  given:    {answer}")
    return totals(met for met, _ in scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--limit", type=int, default=1000, help="prompts of each kind")
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    options = parser.parse_args()
    scores = asyncio.run(examine(options.url, limit=options.limit, show=options.show))
    if options.json:
        print(json.dumps({measure: score._asdict() for measure, score in scores.items()}, indent=2))
        return
    for measure, score in scores.items():
        print(f"{measure:40} {score.right:4} of {score.asked:4}  {score.percent:5.1f} %")


if __name__ == "__main__":
    main()
