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

async function request(path, { secret = "", method = "GET", body = null, signal = null, headers = {} } = {}) {
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

export const sendMessage = async ({ id, secret }, body, signal) =>
  events(await request(`/${encodeURIComponent(id)}/messages`, { method: "POST", secret, body, signal }));

// Everything that happens in the conversation from ``cursor`` on; each event that can be missed carries its number, ``seq``.
export const watch = async ({ id, secret }, cursor, signal) =>
  events(await request(`/${encodeURIComponent(id)}/events`, { secret, signal, headers: cursor === null ? {} : { "last-event-id": String(cursor) } }));

export const signIn = async ({ id, secret }, token) =>
  (await request(`/${encodeURIComponent(id)}/identity`, { method: "POST", secret, body: { token } })).json();

export const leaveContact = async ({ id, secret }, email) =>
  (await request(`/${encodeURIComponent(id)}/contact`, { method: "POST", secret, body: { email } })).json();

export const mayAskForRating = async ({ id, secret }) =>
  (await (await request(`/${encodeURIComponent(id)}/rating/prompt`, { method: "POST", secret, body: {} })).json()).ask;

export const rate = async ({ id, secret }, body) =>
  (await request(`/${encodeURIComponent(id)}/rating`, { method: "POST", secret, body })).json();

export const decide = async ({ id, secret }, action, yes) =>
  events(await request(`/${encodeURIComponent(id)}/actions/${encodeURIComponent(action)}`, { method: "POST", secret, body: { yes } }));

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
        const lines = frame.split("\n");
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        const number = lines.find((line) => line.startsWith("id:"));
        if (data) yield number ? { ...JSON.parse(data), seq: Number(number.slice(3)) } : JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => { /* already closed */ });
  }
}
