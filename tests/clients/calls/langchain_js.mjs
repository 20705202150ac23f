import { CohereEmbeddings, CohereRerank } from "@langchain/cohere";
import { OpenAIEmbeddings } from "@langchain/openai";
import { CohereClient } from "cohere-ai";
import { DOCUMENTS, MANY, QUERY, ranks, TEXTS, vectors } from "./told.mjs";

const openai = (urls) =>
  new OpenAIEmbeddings({ apiKey: "none", configuration: { baseURL: `${urls.embed}/v1` } });
const cohere = (urls) => new CohereClient({ token: "none", environment: urls.embed });

export async function openai_embed_documents(urls) {
  return vectors(MANY, await openai(urls).embedDocuments(MANY));
}

export async function openai_embed_query(urls) {
  return vectors([TEXTS[1]], [await openai(urls).embedQuery(TEXTS[1])]);
}

export async function cohere_embeddings(urls) {
  const client = new CohereEmbeddings({ model: "embed-v4.0", client: cohere(urls) });
  return vectors(TEXTS, await client.embedDocuments(TEXTS));
}

export async function cohere_rerank(urls) {
  const client = new CohereRerank({ model: "rerank-v3.5", client: cohere(urls) });
  const got = await client.rerank(DOCUMENTS, QUERY, { topN: 3 });
  return ranks(QUERY, DOCUMENTS, got.map((each) => [each.index, each.relevanceScore]));
}
