// The chat's flow: open, send, stream, retry without doubling, judge, hand over, come back after a reload.
import { ApiError, askForPerson, getConversation, judge, openConversation, sendMessage, watch } from "./chat-api.js";
import { Bubble, clear, scrollToEnd } from "./chat-view.js";

const $ = (id) => document.getElementById(id);
const form = $("ask"), field = $("text"), send = $("send"), person = $("person"), state = $("state"), log = $("log");
const greeting = document.querySelector(".greeting .text").textContent;
const KEY = "fairlead-chat";
const RETRIES_MS = [600, 2000, 5000];
const framed = document.body.classList.contains("in-widget");

// What this browser keeps: {id, secret, pending: {id, text} | null}. Where storage is forbidden it lives as long as the page.
const kept = {
  value: null,
  load() {
    try { this.value = JSON.parse(localStorage.getItem(KEY)) ?? this.value; } catch { /* storage forbidden or damaged */ }
    return this.value;
  },
  save(value) {
    this.value = value;
    try { value ? localStorage.setItem(KEY, JSON.stringify(value)) : localStorage.removeItem(KEY); } catch { /* forbidden */ }
    $("transcript").hidden = $("restart").hidden = !value;
    for (const part of ["conversation", "secret"]) {
      const text = value ? { conversation: value.id, secret: value.secret }[part] : "";
      for (const input of document.querySelectorAll(`input[name=${part}]`)) input.value = text;
    }
  },
};

let busy = false, watching = null;

// Asking twice changes nothing, so the button rests while the conversation waits for a person or has one.
let inLine = false;
function setInLine(value) {
  inLine = value;
  if (person) person.disabled = value;
}

function say(text, kind = "") {
  state.className = `state ${kind}`;
  state.textContent = text;
}

function setBusy(value) {
  busy = value;
  send.disabled = value;
  log.setAttribute("aria-busy", String(value));
}

// crypto.randomUUID exists only in secure contexts; a chat on a plain-http intranet needs ids too.
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function ensureConversation() {
  if (!kept.value) {
    const { id, secret } = await openConversation({ channel: framed ? "widget" : "chat", language: navigator.language ?? "" });
    kept.save({ id, secret, pending: null });
  }
  return kept.value;
}

// One attempt: the answer's events into its bubble. Resolves with the closing event; throws ApiError when it broke off.
async function stream(pending, own, draw) {
  const conversation = await ensureConversation();
  kept.save({ ...conversation, pending });
  const events = await sendMessage(conversation, pending);
  own.element.classList.remove("waiting");
  for await (const event of events) {
    draw(event);
    if (event.type === "done" || event.type === "error") return event;
  }
  throw new ApiError("offline", "The connection broke.");
}

function drawing() {
  let bubble = null, id = "";
  const answer = () => {
    if (!bubble) {
      bubble = new Bubble("assistant", { id });
      bubble.setBusy(true);
    }
    return bubble;
  };
  return {
    get bubble() { return bubble; },
    reset() { bubble?.remove(); bubble = null; },
    on(event) {
      if (event.type === "started") { id = event.message_id ?? ""; bubble?.setId(id); }
      else if (event.type === "delta") { say(""); answer().addText(event.text); }
      else if (event.type === "sources") answer().setSources(event.sources ?? []);
      else if (event.type === "facts") answer().addCard(event);
      else if (event.type === "handoff") handedOff(event);
      else if (event.type === "done") {
        if (event.act === "waiting") bubble?.judge.remove();
        if (event.message_id) bubble?.setId(event.message_id);
        bubble?.setBusy(false);
      }
    },
  };
}

async function ask(pending, own) {
  setBusy(true);
  say("The assistant is writing", "busy");
  const drawn = drawing();
  for (let attempt = 0; ; attempt += 1) {
    try {
      drawn.reset();
      const last = await stream(pending, own, drawn.on);
      kept.save({ ...kept.value, pending: null });
      if (last.type === "error") failed(pending, own, drawn, new ApiError(last.code, last.message, { retryAfter: last.retry_after }));
      else if (state.classList.contains("busy")) say("");
      break;
    } catch (error) {
      if (!(error instanceof ApiError)) { setBusy(false); throw error; }
      const again = error.code === "offline" || error.code === "turn_running" || error.status >= 502;
      if (again && attempt < RETRIES_MS.length) {
        say("Connection lost. Trying again", "busy bad");
        await pause(RETRIES_MS[attempt]);
        continue;
      }
      if (error.code === "conversation_unknown") kept.save(null);
      failed(pending, own, drawn, error);
      break;
    }
  }
  setBusy(false);
}

function failed(pending, own, drawn, error) {
  drawn.bubble?.setBusy(false);
  if (drawn.bubble && !drawn.bubble.text) drawn.reset();
  say("", "");
  const again = () => ask(error.code === "offline" ? { ...pending } : { id: newId(), text: pending.text }, own);
  const words = error.code === "offline" ? "Not sent: there is no connection." : error.message;
  own.fail(words, () => { if (!busy) again(); });
  if (kept.value) kept.save({ ...kept.value, pending: null });
}

function submit() {
  const text = field.value.trim();
  if (!text || busy) return;
  field.value = "";
  const own = new Bubble("user", { text });
  own.element.classList.add("waiting");
  ask({ id: newId(), text }, own);
}

function handedOff(event) {
  if (event.state === "open" || event.state === "unavailable") {
    watching?.abort();
    watching = null;
    setInLine(false);
    say(event.notice ?? event.message ?? "");
    return;
  }
  setInLine(true);
  listen();
  if (event.state === "with_person") { say("A person of our team is here."); return; }
  const place = event.position > 0 ? ` You are number ${event.position} in line.` : "";
  const hours = event.hours ? ` Hours: ${event.hours}.` : "";
  say(event.notice ?? `${event.message || "A colleague from our team will read this conversation."}${place}${hours}`);
}

async function callPerson() {
  person.disabled = true;
  say("Asking for a person", "busy");
  try {
    const conversation = await ensureConversation();
    const answer = await askForPerson(conversation, field.value.trim());
    handedOff(answer);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(`${error.message} Press the button to try again.`, "bad");
  } finally {
    person.disabled = inLine;
  }
}

// Messages of a person come by an event stream, opened only when one was asked for, and again after a break.
async function listen() {
  if (watching || !kept.value) return;
  const mine = watching = new AbortController();
  for (let wait = 1000; watching === mine; wait = Math.min(wait * 2, 30000)) {
    try {
      for await (const event of await watch(kept.value, mine.signal)) {
        wait = 1000;
        if (event.type === "message") { new Bubble(event.message.role, event.message); say(""); }
        else if (event.type === "state" && event.state === "with_person") say("A person of our team is here.");
        else if (event.type === "state" && event.state === "closed") { say("This conversation was closed."); setInLine(false); watching = null; return; }
        else if (event.type === "state" && event.state === "open") { setInLine(false); watching = null; return; }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "conversation_unknown") return;
    }
    await pause(wait);
  }
}

// Shows the conversation as the server knows it. Resolves with the bubbles, oldest first.
async function restore() {
  const { messages, handoff } = await getConversation(kept.value);
  clear();
  if (messages[0]?.role === "assistant" && messages[0].text === greeting) messages.shift();
  const bubbles = messages.map((message) => new Bubble(message.role, message));
  scrollToEnd();
  if (handoff) handedOff(handoff);
  else say("");
  return bubbles;
}

async function comeBack() {
  if (!kept.load()) return;
  kept.save(kept.value);
  const { pending } = kept.value;
  try {
    const bubbles = await restore();
    if (!pending) return;
    // The message was on its way when the page went: attach to its answer by its id, unless the answer is already there.
    const asked = bubbles.findLastIndex((bubble) => bubble.clientId === pending.id);
    if (asked >= 0 && asked < bubbles.length - 1) kept.save({ ...kept.value, pending: null });
    else await ask(pending, bubbles[asked] ?? new Bubble("user", { text: pending.text }));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "conversation_unknown") {
      kept.save(null);
      say("Your earlier conversation has ended. Ask a new question.");
    } else say("Your earlier conversation cannot be loaded: there is no connection. Reload to try again.", "bad");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter === person) callPerson();
  else submit();
});

field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});

log.addEventListener("submit", async (event) => {
  event.preventDefault();
  const box = event.target, button = event.submitter, said = box.querySelector(".said");
  const message = box.elements.namedItem("message").value;
  const comment = box.elements.namedItem("comment");
  const isThumb = button?.name === "thumb";
  try {
    const answer = await judge(kept.value, isThumb
      ? { message, kind: "thumb", value: Number(button.value) }
      : { message, kind: "comment", text: comment.value });
    said.textContent = answer.notice;
    if (isThumb) {
      for (const other of box.querySelectorAll("[name=thumb]")) other.setAttribute("aria-pressed", String(other === button));
      if (button.value === "0") { box.querySelector(".wrong").open = true; comment.focus(); }
    } else {
      comment.value = "";
      box.querySelector(".wrong").open = false;
      box.querySelector(".wrong summary").focus();
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    said.textContent = error.message;
  }
});

// A passage that opens below the fold comes into view ("toggle" does not bubble).
log.addEventListener("toggle", ({ target }) => { if (target.open && !busy) target.scrollIntoView({ block: "nearest" }); }, true);

$("restart").addEventListener("click", (event) => {
  event.preventDefault();
  watching?.abort();
  watching = null;
  setInLine(false);
  kept.save(null);
  clear();
  say("A new conversation.");
  field.focus();
});

addEventListener("offline", () => say("You are offline. Messages wait until you are back.", "bad"));
addEventListener("online", () => { if (!busy) say("You are back online."); });

if (framed) {
  addEventListener("keydown", (event) => { if (event.key === "Escape") parent.postMessage({ fairlead: "close" }, "*"); });
  addEventListener("message", (event) => { if (event.source === parent && event.data?.fairlead === "opened") field.focus(); });
}

await comeBack();
document.documentElement.dataset.ready = "yes";
