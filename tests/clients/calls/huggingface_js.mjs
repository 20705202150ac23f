import { InferenceClient } from "@huggingface/inference";
import { IMAGE, post, TEXTS, vectors } from "./told.mjs";

const client = (urls, model) => new InferenceClient().endpoint(urls[model]);
const blob = () => new Blob([Buffer.from(IMAGE, "base64")], { type: "image/png" });
const labels = ["one", "two three"];

export async function featureExtraction(urls) {
  return vectors(TEXTS, await client(urls, "embed").featureExtraction({ inputs: TEXTS }));
}

export async function sentenceSimilarity(urls) {
  const inputs = { source_sentence: TEXTS[0], sentences: TEXTS.slice(1) };
  const got = await client(urls, "embed").sentenceSimilarity({ inputs });
  return post("embed", { inputs }, got, "/similarity");
}

export async function textClassification(urls) {
  const got = await client(urls, "classify").textClassification({ inputs: "one two" });
  return post("classify", { inputs: "one two" }, got, "/predict");
}

export async function tokenClassification(urls) {
  const inputs = "angela merkel lives in berlin";
  const parameters = { aggregation_strategy: "simple" };
  const got = await client(urls, "tag").tokenClassification({ inputs, parameters });
  return post("tag", { inputs, parameters }, got);
}

export async function zeroShotClassification(urls) {
  const body = { inputs: "angela lives", parameters: { candidate_labels: ["paris", "york"] } };
  return post("nli", body, await client(urls, "nli").zeroShotClassification(body));
}

export async function imageClassification(urls) {
  const got = await client(urls, "image-classify").imageClassification({ data: blob() });
  return post("image-classify", { inputs: IMAGE }, got);
}

export async function zeroShotImageClassification(urls) {
  const parameters = { candidate_labels: labels };
  const ask = client(urls, "image-embed");
  const got = await ask.zeroShotImageClassification({ inputs: { image: blob() }, parameters });
  return post("image-embed", { inputs: IMAGE, parameters }, got);
}
