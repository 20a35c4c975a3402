// What the page asks of the service over HTTP, with an API key where one is needed.

let key = "";

/** The service wants an API key, or another one. */
export class KeyNeeded extends Error {}

export function currentKey() {
  return key;
}

/** Faces and emotions of one picture. Throws an Error that a person can read, KeyNeeded where a key is missing. */
export async function predict(picture) {
  const headers = { "Content-Type": picture.type || "application/octet-stream" };
  return (await ask("predict", { method: "POST", headers, body: picture })).json();
}

/** Use `given` from now on. Throws KeyNeeded where it is wrong, and forgets it. */
export async function useKey(given) {
  const before = key;
  key = given;
  try {
    await ask("model");
  } catch (error) {
    if (!(error instanceof KeyNeeded)) return; // not ready, say: the key itself was taken
    key = before;
    throw error;
  }
}

/** Whether the service wants a key that the page does not have. */
export async function needsKey() {
  return ask("model").then(
    () => false,
    (error) => error instanceof KeyNeeded,
  );
}

/** Which model answers, in words. */
export async function nameModel() {
  const response = await fetch("readyz").catch(() => null);
  const body = (await response?.json().catch(() => null)) ?? {};
  if (!response?.ok) return body.detail ?? "The server is not responding.";
  return `Model ${body.model.name} ${body.model.version}, face detector ${body.model.detector}`;
}

/** The picture that comes with the page. */
export async function example() {
  return (await ask("web/example.jpg")).blob();
}

async function ask(path, { headers = {}, ...options } = {}) {
  if (key) headers["X-API-Key"] = inHeader(key);
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("The server is not responding. Is it running?");
  });
  if (response.ok) return response;
  const { detail = `The server answered ${response.status}.` } = await response.json().catch(() => ({}));
  throw response.status === 401 ? new KeyNeeded(detail) : new Error(detail);
}

/** A header holds bytes: those of `text` in UTF-8. */
function inHeader(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
