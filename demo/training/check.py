"""Compare with transformers and talk to the model a little.

    python check.py --model FOLDER

Loads the folder with AutoModelForCausalLM and AutoTokenizer, compares logits with model.py and the chat template with
corpus.render, then prints sample chats, among them a whole tool-call round trip.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus
from demo.scoring import CALL, parsed
from model import load

THINK = {"role": "system", "content": "Think first."}

WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "get_weather", "description": "Get the weather in a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, "required": ["city"]}}}  # fmt: skip
ORDER: dict[str, Any] = {"type": "function", "function": {"name": "order_lantern", "description": "Order a lantern.", "parameters": {
    "type": "object", "properties": {"colour": {"type": "string"}, "count": {"type": "integer"}}, "required": ["colour", "count"]}}}  # fmt: skip

CHATS: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    ([corpus.user("Hello!")], []),
    ([corpus.user("Who are you?")], []),
    ([corpus.user("What is the capital of Norway?")], []),
    ([corpus.user("Tell me a story about a fox and a lantern.")], []),
    ([corpus.user("What is 17 + 25?")], []),
    ([THINK, corpus.user("What is 38 + 27?")], []),
    ([corpus.user("What is a young sheep called?")], []),
    ([corpus.user("My name is Petra. The code is K7-31."), corpus.assistant("OK, I will remember that."), corpus.user("What is the capital of Peru?"),
      corpus.assistant("The capital of Peru is Lima."), corpus.user("What is the code?")], []),
    ([corpus.user("Give me a person as JSON with name, age and city.")], []),
    ([corpus.user("Turn this into JSON: title harbour party, day Friday, guests Tom and Ella.")], []),
    ([corpus.user("Who wrote Hamlet?")], []),
    ([corpus.user("What's the weather like in Lisbon, in celsius?")], [WEATHER, ORDER]),
    ([corpus.user("Order the lantern with colour green and count 12.")], [WEATHER, ORDER]),
    ([corpus.user("How is the weather in Rome and Oslo?")], [WEATHER]),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    folder = parser.parse_args().model
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load(folder)

    differing = 0
    for sample in islice(corpus.samples(99), 500):
        text = "".join(piece for piece, _ in corpus.render(sample.messages, sample.tools))
        differing += text != tokenizer.apply_chat_template(sample.messages, tools=sample.tools or None, tokenize=False)
    print(f"chat template: {differing} of 500 conversations differ from corpus.render")
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[:, :1024]
    with torch.inference_mode():
        print(f"logits: largest difference {float((theirs(ids).logits - ours(ids)).abs().max()):.2e} over {ids.shape[1]} tokens")

    def reply(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        prompt = tokenizer.apply_chat_template(messages, tools=tools or None, add_generation_prompt=True, tokenize=False)
        given = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        out = theirs.generate(**given, do_sample=False, max_new_tokens=300)[0, given.input_ids.shape[1] :]
        return str(tokenizer.decode(out, skip_special_tokens=True))

    for messages, tools in CHATS:
        text = reply(messages, tools)
        print(f"\n> {messages[-1]['content']}\n{text}")
        calls = [call for call in map(parsed, CALL.findall(text)) if isinstance(call, dict)]
        if calls:
            results = ['{"temperature": 21, "condition": "sunny"}' if "weather" in str(call) else '{"status": "ok"}' for call in calls]
            made = [{"type": "function", "function": call} for call in calls]
            full = [*messages, {"role": "assistant", "content": "", "tool_calls": made}, *({"role": "tool", "content": result} for result in results)]
            print("\n".join(f"< {result}" for result in results) + f"\n{reply(full, tools)}")


if __name__ == "__main__":
    main()
