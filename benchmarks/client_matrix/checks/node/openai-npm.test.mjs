// The OpenAI SDK for JavaScript.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { ANSWER, KEY, MODEL, PERSON_REQUEST, QUESTION, STORY, SUM, TEXTS, TOO_LONG, URL, WEATHER_REQUEST, oneMoreAbort } from "./asked.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY, maxRetries: 0, timeout: 500_000 });
const asking = (content) => ({ model: MODEL, temperature: 0, messages: [{ role: "user", content }] });
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(120) });

test("plain: chat", async () => {
  const answer = await client.chat.completions.create(asking(QUESTION));
  assert.equal(answer.choices[0].message.content, ANSWER);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("plain: completions", async () => {
  const answer = await client.completions.create({ model: MODEL, prompt: "Once upon a time", max_tokens: 5 });
  assert.equal(answer.usage.completion_tokens, 5);
});

test("plain: models", async () => {
  assert.ok((await client.models.list()).data.some((model) => model.id === MODEL));
});

test("streaming: chat with usage", async () => {
  const stream = await client.chat.completions.create({
    ...asking(QUESTION),
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, ANSWER);
  assert.ok(usage.completion_tokens > 0);
});

test("streaming: through the accumulator", async () => {
  const final = await client.chat.completions.stream(asking(QUESTION)).finalChatCompletion();
  assert.equal(final.choices[0].message.content, ANSWER);
});

for (const streamed of [false, true]) {
  test(`tools: round trip, ${streamed ? "streamed" : "whole"}`, async () => {
    const asked = [];
    const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const tool = {
      type: "function",
      function: {
        name: "get_weather",
        description: "Get the current weather in a city.",
        parameters,
        parse: JSON.parse,
        function: ({ city }) => {
          asked.push(city);
          return `sunny in ${city}`;
        },
      },
    };
    const runner = client.chat.completions.runTools({ ...asking(WEATHER_REQUEST), tools: [tool], stream: streamed });
    assert.match(await runner.finalContent(), /Oslo/);
    assert.deepEqual(asked, ["Oslo"]);
  });
}

test("structured: parse with zod", async () => {
  const answer = await client.chat.completions.parse({
    ...asking(PERSON_REQUEST),
    response_format: zodResponseFormat(Person, "person"),
  });
  Person.parse(answer.choices[0].message.parsed);
});

test("structured: stream with zod", async () => {
  const stream = client.chat.completions.stream({
    ...asking(PERSON_REQUEST),
    response_format: zodResponseFormat(Person, "person"),
  });
  Person.parse((await stream.finalChatCompletion()).choices[0].message.parsed);
});

test("logprobs: of chat", async () => {
  const answer = await client.chat.completions.create({ ...asking(QUESTION), logprobs: true, top_logprobs: 2 });
  assert.equal(answer.choices[0].logprobs.content.map((entry) => entry.token).join(""), ANSWER);
});

test("errors: have their classes", async () => {
  await assert.rejects(client.chat.completions.create(asking(TOO_LONG)), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.code, "context_length_exceeded");
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...asking(QUESTION), model: "gpt-4o" }), OpenAI.NotFoundError);
  await assert.rejects(client.withOptions({ apiKey: "wrong" }).models.list(), OpenAI.AuthenticationError);
});

test("cancel: by aborting a stream", async () => {
  await oneMoreAbort(async () => {
    const stream = await client.chat.completions.create({
      ...asking(STORY),
      stream: true,
      max_tokens: 1500,
      ignore_eos: true,
    });
    for await (const _ of stream) break; // leaving the loop ends the request
  });
});

test("reasoning: apart from content, whole", async () => {
  const answer = await client.chat.completions.create({ ...asking(SUM), reasoning_effort: "high" });
  const { reasoning_content: thoughts, content } = answer.choices[0].message;
  assert.ok(thoughts);
  assert.ok(content);
  assert.doesNotMatch(content, /think>/);
  assert.ok(answer.usage.completion_tokens_details.reasoning_tokens > 0);
});

test("reasoning: apart from content, streamed", async () => {
  const stream = await client.chat.completions.create({ ...asking(SUM), enable_thinking: true, stream: true });
  let thoughts = "";
  let content = "";
  for await (const { choices } of stream) {
    thoughts += choices[0].delta.reasoning_content ?? "";
    content += choices[0].delta.content ?? "";
  }
  assert.ok(thoughts);
  assert.ok(content);
  assert.doesNotMatch(content, /think>/);
});

test("embeddings: as numbers, and as the base64 that the SDK asks for by itself", async () => {
  const asked = { model: MODEL, input: TEXTS };
  const numbers = await client.embeddings.create({ ...asked, encoding_format: "float" });
  const decoded = await client.embeddings.create(asked);
  assert.deepEqual(numbers.data.map(({ index }) => index), [0, 1]);
  const square = numbers.data[0].embedding.reduce((sum, number) => sum + number * number, 0);
  assert.ok(Math.abs(square - 1) < 1e-3);
  decoded.data[0].embedding.forEach((number, place) => assert.ok(Math.abs(number - numbers.data[0].embedding[place]) < 1e-6));
});
