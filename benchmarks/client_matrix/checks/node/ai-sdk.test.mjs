// Vercel's AI SDK with its provider for OpenAI-compatible servers, which validates every chunk.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { ANSWER, KEY, MODEL, PERSON_REQUEST, QUESTION, STORY, SUM, TEXTS, TOO_LONG, URL, WEATHER_REQUEST, oneMoreAbort } from "./asked.mjs";

const options = { name: "quire", baseURL: URL, includeUsage: true, supportsStructuredOutputs: true };
const provider = createOpenAICompatible({ ...options, apiKey: KEY });
const asking = (prompt) => ({ model: provider.chatModel(MODEL), prompt, temperature: 0, maxRetries: 0 });
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(120) });

const fail = ({ error }) => {
  throw error;
};

test("plain: chat", async () => {
  const answer = await generateText(asking(QUESTION));
  assert.equal(answer.text, ANSWER);
  assert.equal(answer.finishReason, "stop");
  assert.ok(answer.usage.outputTokens > 0);
});

test("plain: completions", async () => {
  const model = provider.completionModel(MODEL);
  assert.ok((await generateText({ model, prompt: "Once upon a time", maxOutputTokens: 5, maxRetries: 0 })).text);
});

test("streaming: chat with usage", async () => {
  const stream = streamText({ ...asking(QUESTION), onError: fail });
  let text = "";
  for await (const part of stream.textStream) text += part;
  assert.equal(text, ANSWER);
  assert.ok((await stream.usage).outputTokens > 0);
});

for (const streamed of [false, true]) {
  test(`tools: round trip, ${streamed ? "streamed" : "whole"}`, async () => {
    const asked = [];
    const get_weather = tool({
      description: "Get the current weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        asked.push(city);
        return `sunny in ${city}`;
      },
    });
    const request = { ...asking(WEATHER_REQUEST), tools: { get_weather }, stopWhen: stepCountIs(2) };
    const answer = streamed ? streamText({ ...request, onError: fail }) : await generateText(request);
    if (streamed) for await (const _ of answer.fullStream);
    assert.match(await answer.text, /Oslo/);
    assert.deepEqual(asked, ["Oslo"]);
  });
}

for (const streamed of [false, true]) {
  test(`structured: output object, ${streamed ? "streamed" : "whole"}`, async () => {
    const request = { ...asking(PERSON_REQUEST), output: Output.object({ schema: Person }) };
    const answer = streamed ? streamText({ ...request, onError: fail }) : await generateText(request);
    if (streamed) for await (const _ of answer.textStream);
    Person.parse(await answer.output);
  });
}

test("logprobs", { skip: "the provider does not hand log-probabilities on" });

test("errors: carry status, message and body", async () => {
  await assert.rejects(generateText(asking(TOO_LONG)), (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /maximum context length/);
    return true;
  });
  const stranger = createOpenAICompatible({ ...options, apiKey: "wrong" });
  await assert.rejects(generateText({ ...asking(QUESTION), model: stranger.chatModel(MODEL) }), { statusCode: 401 });
});

test("cancel: by an abort signal", async () => {
  await oneMoreAbort(async () => {
    const leaving = new AbortController();
    const endless = createOpenAICompatible({
      ...options,
      apiKey: KEY,
      transformRequestBody: (body) => ({ ...body, ignore_eos: true }),
    });
    const request = { ...asking(STORY), model: endless.chatModel(MODEL), maxOutputTokens: 1500 };
    const stream = streamText({ ...request, abortSignal: leaving.signal });
    for await (const _ of stream.textStream) leaving.abort();
  });
});

for (const streamed of [false, true]) {
  test(`reasoning: apart from the text, ${streamed ? "streamed" : "whole"}`, async () => {
    const request = { ...asking(SUM), providerOptions: { quire: { reasoningEffort: "high" } } };
    const answer = streamed ? streamText({ ...request, onError: fail }) : await generateText(request);
    if (streamed) for await (const _ of answer.fullStream);
    const text = await answer.text;
    assert.ok(await answer.reasoningText);
    assert.ok(text);
    assert.doesNotMatch(text, /think>/);
  });
}

test("embeddings: of texts", async () => {
  const { embeddings } = await embedMany({ model: provider.embeddingModel(MODEL), values: TEXTS, maxRetries: 0 });
  assert.equal(embeddings.length, 2);
  const square = embeddings[0].reduce((sum, number) => sum + number * number, 0);
  assert.ok(Math.abs(square - 1) < 1e-3);
});
