// Talking to the chat's JSON API: requests, server-sent events over fetch, errors as values. Knows nothing of the page.

const BASE = "/chat/api/conversations";

export class ApiError extends Error {
  constructor(code, message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function request(path, { secret = "", method = "GET", body = null, signal = null } = {}) {
  const headers = {};
  if (secret) headers["x-conversation-secret"] = secret;
  if (body !== null) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(BASE + path, {
      method, headers, signal, body: body === null ? undefined : JSON.stringify(body),
      credentials: "omit", cache: "no-store", redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("offline", "No connection.");
  }
  if (response.ok) return response;
  let problem = {};
  try {
    problem = (await response.json()).error ?? {};
  } catch { /* not JSON: a proxy's page; the status says enough */ }
  throw new ApiError(problem.code ?? "failed", problem.message ?? `The server answered ${response.status}.`, {
    status: response.status, retryAfter: problem.retry_after ?? null,
  });
}

export const openConversation = async (wish) => (await request("", { method: "POST", body: wish })).json();

export const getConversation = async ({ id, secret }) => (await request(`/${encodeURIComponent(id)}`, { secret })).json();

export const judge = async ({ id, secret }, body) =>
  (await request(`/${encodeURIComponent(id)}/feedback`, { method: "POST", secret, body })).json();

export const askForPerson = async ({ id, secret }, reason) =>
  (await request(`/${encodeURIComponent(id)}/handoff`, { method: "POST", secret, body: { reason } })).json();

export const sendMessage = async ({ id, secret }, body) =>
  events(await request(`/${encodeURIComponent(id)}/messages`, { method: "POST", secret, body }));

export const watch = async ({ id, secret }, signal) =>
  events(await request(`/${encodeURIComponent(id)}/events`, { secret, signal }));

// The JSON objects of an event stream. Throws ApiError("offline") when it breaks off.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      let chunk;
      try {
        chunk = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError("offline", "The connection broke.");
      }
      if (chunk.done) return;
      rest += chunk.value;
      const frames = rest.split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const data = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        if (data) yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => { /* already closed */ });
  }
}
