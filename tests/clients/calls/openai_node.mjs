import OpenAI from "openai";
import { MANY, MODEL, refused, same, TEXTS, vectors } from "./told.mjs";

const client = (urls) => new OpenAI({ baseURL: `${urls.embed}/v1`, apiKey: "none" });
const all = (answer) => answer.data.map((each) => each.embedding);

export async function embeddings(urls) {
  return vectors(TEXTS, all(await client(urls).embeddings.create({ model: MODEL, input: TEXTS })));
}

export async function a_thousand_inputs_and_the_usual_model_name(urls) {
  const body = { model: "text-embedding-3-small", input: MANY, encoding_format: "float" };
  return vectors(MANY, all(await client(urls).embeddings.create(body)));
}

export async function models(urls) {
  return same((await client(urls).models.list()).data[0].id, MODEL);
}

export async function token_ids_are_refused(urls) {
  const ask = () => client(urls).embeddings.create({ model: MODEL, input: [[9906, 1917]] });
  return await refused(ask, "400", "BATCHER_TOKEN_IDS");
}
