"""What `lm-eval` has to find through HTTP, computed from the model's files instead, without server and engine.

    python -m benchmarks.client_matrix.offline_scores < QUESTIONS > SCORES

Reads a JSON list of {"messages", "prompt", "choices"}. Writes {"loglikelihoods": a list of one number per choice for
each question, "answers": to the messages, greedily}. Log-likelihoods come from whole sequences passed layer by layer
through the model, as `quire eval` does it: no cache, no blocks, no batches of strangers. Answers come from `quire.LLM`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.server_process import DEMO
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.loader import ModelParts
from engine.ops.select import select_backend
from engine.text.tokenizer import load_tokenizer
from quantize.streamed_model import StreamedModel
from quire import LLM, SamplingParams

MAX_TOKENS = 32


def loglikelihoods(model: Path, questions: Sequence[dict[str, Any]]) -> list[list[float]]:
    """The log-likelihood of every choice behind its prompt."""
    tokenizer = load_tokenizer(model)
    contexts = [
        tokenizer.encode(each["prompt"], add_special_tokens=False) for each in questions for _ in each["choices"]
    ]
    wholes = [
        tokenizer.encode(each["prompt"] + choice, add_special_tokens=False)
        for each in questions
        for choice in each["choices"]
    ]
    longest = max(map(len, wholes))
    # what is behind the end of a row has no influence on what is before it
    rows = torch.tensor([[*whole, *[0] * (longest - len(whole))] for whole in wholes], dtype=torch.int32)
    backend = select_backend("cpu", "auto", 0)
    parts = ModelParts.open(Checkpoint.open(model), load_config(model), backend, longest, longest)
    streamed = StreamedModel(parts)
    output = streamed.output()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        streams = streamed.run(Path(scratch) / "rows.f32", rows, lambda: None)
        for row, (context, whole) in enumerate(zip(contexts, wholes, strict=True)):
            known = output.log_probabilities(streams.read(row)[len(context) - 1 : len(whole) - 1])
            targets = torch.tensor(whole[len(context) :])
            found.append(float(known.gather(1, targets[:, None]).sum()))
        streams.remove()
    each = iter(found)
    return [[next(each) for _ in question["choices"]] for question in questions]


def answers(model: Path, questions: Sequence[dict[str, Any]]) -> list[str]:
    """What is answered to the messages."""
    llm = LLM(str(model))
    asked = [question["messages"] for question in questions]
    outputs = llm.chat(asked, SamplingParams(temperature=0, max_tokens=MAX_TOKENS))
    return [output.outputs[0].text for output in outputs]


def main() -> None:
    questions = json.load(sys.stdin)
    json.dump({"loglikelihoods": loglikelihoods(DEMO, questions), "answers": answers(DEMO, questions)}, sys.stdout)


if __name__ == "__main__":
    main()
