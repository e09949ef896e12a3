// What all checks share: the server, what to ask it, and what it tells of itself.

export const ROOT = process.env.QUIRE_URL;
export const URL = `${ROOT}/v1`;
export const KEY = process.env.QUIRE_KEY;
export const MODEL = process.env.QUIRE_MODEL;

export const QUESTION = "What is the capital of Norway?";
export const ANSWER = "The capital of Norway is Oslo.";
export const SUM = "What is 17 + 25?"; // which the model reasons about when told to
export const TEXTS = ["a fox", "a lantern"]; // to be made into vectors
export const STORY = "Tell me a story about a fox and a lantern.";
export const TOO_LONG = "word ".repeat(5000);
export const PERSON_REQUEST = "Write JSON for a person with the keys name and age.";
export const WEATHER_REQUEST = "What is the weather in Oslo?";

const PATIENCE_MS = 60_000;

async function metric(name) {
  const answer = await fetch(`${ROOT}/metrics`, { headers: { "x-api-key": KEY } });
  const series = (await answer.text()).matchAll(new RegExp(`^quire_${name}\\{.*\\} (\\S+)$`, "gm"));
  return [...series].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** What is done inside makes the server stop one answer before its end, and free all it held. */
export async function oneMoreAbort(act) {
  const before = await metric("request_unfinished_total");
  await act();
  const deadline = Date.now() + PATIENCE_MS;
  while ((await metric("request_unfinished_total")) !== before + 1 || (await metric("num_requests_running")) !== 0) {
    if (Date.now() > deadline) throw new Error("the answer goes on although nobody wants it");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
