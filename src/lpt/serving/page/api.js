// Calls of the server, and its errors in plain words. The token lives in this module only, until the page is closed.

let token = "";

/** What went wrong with a call: a sentence for people, and what the page can do about it. */
export class Problem extends Error {
  constructor(message, { status = 0, wait = 0 } = {}) {
    super(message);
    this.status = status;
    this.wait = wait; // milliseconds after which another try makes sense; 0: none by itself
  }
}

export function setToken(text) {
  token = text;
}

export function hasToken() {
  return token !== "";
}

/** Return the packs of the server. */
export async function listPacks() {
  return (await call("v1/packs")).packs;
}

/** Return the classes, measures and sizes of a pack. */
export function describePack(name) {
  return call(`v1/packs/${encodeURIComponent(name)}`);
}

/** Classify a picture with one pack or two; return a map from the pack's name to its prediction. `prior` may be "". */
export async function classify(file, packs, prior, signal) {
  const body = new FormData();
  body.append("images", file, file.name);
  body.append("top_k", "5");
  body.append("attention", "true");
  if (prior) body.append("prior", prior);
  if (packs.length === 1) {
    const address = `v1/packs/${encodeURIComponent(packs[0])}/predict?top_k=5&attention=true`;
    const { predictions } = await call(address, { method: "POST", body, signal });
    return new Map([[packs[0], predictions[0]]]);
  }
  for (const name of packs) body.append("packs", name);
  const { results } = await call("v1/predict", { method: "POST", body, signal });
  return new Map(results.map((result) => [result.pack, result.predictions[0]]));
}

async function call(address, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(address, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Check that it runs and that you are connected, then try again.");
  }
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (response.ok && answer) return answer;
  const { status } = response;
  throw new Problem(sentence(status, answer?.error?.message), { status, wait: waitOf(response) });
}

/** Return the milliseconds after which the server wants to be asked again. */
function waitOf(response) {
  if (response.status !== 429 && response.status !== 503) return 0;
  const seconds = Number(response.headers.get("Retry-After"));
  return 1000 * Math.min(Math.max(Number.isFinite(seconds) ? seconds : 1, 0.5), 30);
}

const WORDS = {
  401: "The server does not accept the token.",
  404: "The server no longer has this pack.",
  413: "The picture is too large for this server.",
  415: "This is not a kind of picture that the server reads.",
  422: "The server cannot read this picture.",
  429: "The server has too much to do.",
  503: "The server is starting or stopping.",
  504: "The server took too long.",
};

function sentence(status, message) {
  const text = message || WORDS[status] || `The server answered with an error (${status}).`;
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
