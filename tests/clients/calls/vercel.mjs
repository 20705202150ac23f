import { createCohere } from "@ai-sdk/cohere";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, embedMany, rerank } from "ai";
import { DOCUMENTS, MANY, QUERY, ranks, TEXTS, vectors } from "./told.mjs";

const of = (make, urls, path = "/v1") =>
  make({ name: "batcher", baseURL: `${urls.embed}${path}`, apiKey: "none" });

export async function openai_compatible_embedMany(urls) {
  const model = of(createOpenAICompatible, urls).textEmbeddingModel("mine");
  return vectors(MANY, (await embedMany({ model, values: MANY })).embeddings);
}

export async function openai_embed(urls) {
  const model = of(createOpenAI, urls).textEmbeddingModel("text-embedding-3-small");
  return vectors([TEXTS[1]], [(await embed({ model, value: TEXTS[1] })).embedding]);
}

export async function cohere_embedMany(urls) {
  const model = of(createCohere, urls, "/v2").textEmbeddingModel("embed-v4.0");
  return vectors(TEXTS, (await embedMany({ model, values: TEXTS })).embeddings);
}

export async function cohere_rerank(urls) {
  const model = of(createCohere, urls, "/v2").reranking("rerank-v3.5");
  const { ranking } = await rerank({ model, documents: DOCUMENTS, query: QUERY, topN: 3 });
  return ranks(QUERY, DOCUMENTS, ranking.map((each) => [each.originalIndex, each.score]));
}
