import { HuggingfaceServerEmbeddingFunction } from "@chroma-core/huggingface-server";
import { OpenAIEmbeddingFunction } from "@chroma-core/openai";
import { CohereClient, CohereClientV2 } from "cohere-ai";
import { Ollama } from "ollama";
import { DOCUMENTS, MANY, MODEL, QUERY, ranks, TEXTS, vectors } from "./told.mjs";

export async function chroma_huggingface_server(urls) {
  const ask = new HuggingfaceServerEmbeddingFunction({ url: `${urls.embed}/embed` });
  return vectors(TEXTS, await ask.generate(TEXTS));
}

export async function chroma_openai(urls) {
  const options = { apiKey: "none", apiBase: `${urls.embed}/v1`, modelName: MODEL };
  return vectors(MANY, await new OpenAIEmbeddingFunction(options).generate(MANY));
}

export async function cohere_embed_v2(urls) {
  const client = new CohereClientV2({ token: "none", environment: urls.embed });
  const embeddingTypes = ["float"];
  const body = { model: "any", texts: TEXTS, inputType: "search_query", embeddingTypes };
  return vectors(TEXTS, (await client.embed(body)).embeddings.float);
}

export async function cohere_rerank_v2(urls) {
  const client = new CohereClientV2({ token: "none", environment: urls.embed });
  const { results } = await client.rerank({ model: "any", query: QUERY, documents: DOCUMENTS });
  return ranks(QUERY, DOCUMENTS, results.map((each) => [each.index, each.relevanceScore]));
}

export async function cohere_rerank_v1(urls) {
  const client = new CohereClient({ token: "none", environment: urls.embed });
  const { results } = await client.rerank({ query: QUERY, documents: DOCUMENTS, topN: 2 });
  return ranks(QUERY, DOCUMENTS, results.map((each) => [each.index, each.relevanceScore]));
}

export async function ollama_embed(urls) {
  const { embeddings } = await new Ollama({ host: urls.embed }).embed({ model: "m", input: TEXTS });
  return vectors(TEXTS, embeddings);
}
