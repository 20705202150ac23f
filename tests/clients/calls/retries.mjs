// What clients do that retry by themselves: see retries.py.
import { OpenAIEmbeddings } from "@langchain/openai";
import { embed } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { CohereClientV2 } from "cohere-ai";
import OpenAI from "openai";

const langchain = (urls, options) =>
  new OpenAIEmbeddings({
    apiKey: "none",
    configuration: { baseURL: `${urls.busy}/v1` },
    ...options,
  });
const openai = (urls) => new OpenAI({ baseURL: `${urls.busy}/v1`, apiKey: "none" });

async function refused(...calls) {
  for (const call of calls) {
    const got = await call().then(() => "an answer", () => null);
    if (got) throw new Error("it was not refused");
  }
  return { calls: calls.length };
}

// One input runs and two wait: the next is refused.
async function fill(urls) {
  for (let number = 0; number < 3; number++) {
    const body = JSON.stringify({ inputs: `filling ${number} ${Math.random()}` });
    const headers = { "content-type": "application/json" };
    fetch(`${urls.busy}/embed`, { method: "POST", body, headers }).then((answer) => answer.text());
    const counted = number > 0 ? "waiting" : "running";
    const reached = Math.max(number, 1);
    while ((await (await fetch(`${urls.busy}/stats`)).json())[counted] < reached);
  }
}

export const langchain_js_lasting = (urls) =>
  refused(
    () => langchain(urls, { dimensions: 100000 }).embedQuery("a"),
    () => langchain(urls, { batchSize: 3000 }).embedDocuments(Array(3000).fill("a")),
  );

export const openai_node_lasting = (urls) =>
  refused(
    () => openai(urls).embeddings.create({ model: "m", input: [] }),
    () => openai(urls).embeddings.create({ model: "m", input: [[1, 2]] }),
    () => openai(urls).embeddings.create({ model: "m", input: "a", dimensions: 100000 }),
  );

export async function langchain_js_overload(urls) {
  await fill(urls);
  return { got: (await langchain(urls).embedDocuments(["mine"])).length };
}

export async function openai_node_overload(urls) {
  await fill(urls);
  return { got: (await openai(urls).embeddings.create({ model: "m", input: "mine" })).data.length };
}

export async function vercel_overload(urls) {
  const make = createOpenAICompatible({ name: "b", baseURL: `${urls.busy}/v1`, apiKey: "none" });
  await fill(urls);
  const { embedding } = await embed({ model: make.textEmbeddingModel("m"), value: "mine" });
  return { got: embedding.length > 0 ? 1 : 0 };
}

export async function cohere_node_overload(urls) {
  const client = new CohereClientV2({ token: "none", environment: urls.busy });
  const fixed = { model: "m", inputType: "search_query", embeddingTypes: ["float"] };
  await fill(urls);
  return { got: (await client.embed({ ...fixed, texts: ["mine"] })).embeddings.float.length };
}
