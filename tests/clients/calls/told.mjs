// What a call tells test_calls.py: see told.py.
export const TEXTS = ["hello", "a second text, longer than the first", "été 𝄞", "hello"];
export const MANY = Array.from({ length: 1000 }, (_, number) => `text number ${number % 40}`);
export const QUERY = "how is the weather";
export const DOCUMENTS = [
  "it rains today",
  "a recipe for bread",
  "the sun will shine tomorrow",
  "weather",
];
export const MODEL = "sentence-transformers/all-MiniLM-L6-v2";
export const IMAGE =
  "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAE0lEQVR42mP4z8AARGDiPwNxHACeow/xy+hZbgAAAABJRU5ErkJggg==";

export const vectors = (texts, got, scaled = true) => ({
  kind: "vectors",
  texts,
  got: got.map((each) => Array.from(each)),
  scaled,
});
export const ranks = (query, documents, got, model = "embed") => ({
  kind: "ranks",
  query,
  documents,
  got,
  model,
});
export const post = (model, body, got, path = "/") => ({ kind: "post", model, path, body, got });
export const same = (got, wanted) => ({ kind: "same", got, wanted });

export async function refused(call, ...words) {
  try {
    await call();
  } catch (error) {
    return { kind: "refused", got: `${error.message}`, words };
  }
  return { kind: "refused", got: "", words };
}
