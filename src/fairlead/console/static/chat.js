// The chat's flow: open, send, stream, retry without doubling, judge, hand over, come back after a reload.
import {
  ApiError, askForPerson, decide, getConversation, judge, leaveContact, mayAskForRating, openConversation, rate, sendMessage, signIn, watch,
} from "./chat-api.js";
import { Bubble, clear, confirmCard, dropCards, known, scrollToEnd, UNJUDGED } from "./chat-view.js";

const $ = (id) => document.getElementById(id);
const form = $("ask"), field = $("text"), send = $("send"), person = $("person"), state = $("state"), log = $("log");
const greeting = document.querySelector(".greeting .text").textContent;
const KEY = "fairlead-chat";
const RETRIES_MS = [600, 2000, 5000];
const framed = document.body.classList.contains("in-widget");
const who = $("who"), contact = $("contact"), rating = $("rating"), aiWords = who.textContent, title = document.title;
const VISITOR = "fairlead-visitor", VISITOR_MS = 7 * 86400000;

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

// Changes what is kept of one conversation, unless another has begun while an answer was waited for.
function note(id, fields) {
  if (kept.value?.id === id) kept.save({ ...kept.value, ...fields });
}

// ``cursor`` is the number of the newest event this window has heard; ``expected`` are answers that stream in by themselves.
let busy = false, asking = null, watching = null, cursor = null, standing = "open", rated = false, quiet = 0;
const expected = new Set();

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

// A random name for this browser, forgotten after a week: it shows whether a customer had to come back about the same matter.
function visitor() {
  let found = null;
  try { found = JSON.parse(localStorage.getItem(VISITOR)); } catch { /* forbidden or damaged */ }
  if (!found || found.until < Date.now()) found = { id: newId(), until: Date.now() + VISITOR_MS };
  try { localStorage.setItem(VISITOR, JSON.stringify(found)); } catch { return ""; }
  return found.id;
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// The first message and the call for a person may come at once: both wait for the one conversation that is being opened.
let opening = null;
async function ensureConversation() {
  if (kept.value) return kept.value;
  opening ??= beginConversation().finally(() => { opening = null; });
  return opening;
}

async function beginConversation() {
  const { id, secret } = await openConversation({
    channel: framed ? "widget" : "chat", language: navigator.language ?? "", visitor: visitor(),
  });
  const begun = { id, secret, pending: null };
  kept.save(begun);
  cursor = null;
  rated = false;
  await listen();
  return kept.value ?? begun;
}

// Who is signed in on the page around this frame, as that page's token says. Told before each message, because the server
// keeps it in memory only; a token that is refused is dropped, and the customer is asked like anybody else.
let identity = "";
async function vouch(conversation) {
  if (!identity) return;
  const token = identity;
  try {
    await signIn(conversation, token);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== "identity_refused") return;
    if (identity === token) identity = "";
    console.warn(`fairlead: ${error.message}`);
    parent.postMessage({ fairlead: "identity-refused", message: error.message }, "*");
  }
}

// One attempt: the answer's events into its bubble. Resolves with the closing event; throws ApiError when it broke off.
async function stream(pending, own, draw, signal) {
  const conversation = await ensureConversation();
  signal.throwIfAborted();
  note(conversation.id, { pending });
  await vouch(conversation);
  signal.throwIfAborted();
  const events = await sendMessage(conversation, pending, signal);
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
      if (event.type === "started") {
        id = event.message_id ?? "";
        expected.add(id);
        // The news of an answer can be quicker than the answer itself; it is drawn once, as it streams.
        const told = known.byId.get(id);
        if (told !== bubble) told?.remove();
        bubble?.setId(id);
      }
      else if (event.type === "delta") { say(""); answer().addText(event.text); }
      else if (event.type === "sources") answer().setSources(event.sources ?? []);
      else if (event.type === "facts") answer().addCard(event);
      else if (event.type === "handoff") handedOff(event);
      else if (event.type === "confirm") askToConfirm(event);
      else if (event.type === "done") {
        if (UNJUDGED.includes(event.act)) bubble?.judge.remove();
        if (event.message_id) bubble?.setId(event.message_id);
        bubble?.setBusy(false);
      }
    },
  };
}

async function ask(pending, own) {
  const mine = asking = new AbortController();
  setBusy(true);
  say("The assistant is writing", "busy");
  const drawn = drawing();
  for (let attempt = 0; ; attempt += 1) {
    try {
      drawn.reset();
      const last = await stream(pending, own, drawn.on, mine.signal);
      if (mine.signal.aborted) return;
      note(kept.value?.id, { pending: null });
      if (last.type === "error") failed(pending, own, drawn, new ApiError(last.code, last.message, { retryAfter: last.retry_after }));
      else if (state.classList.contains("busy")) say("");
      break;
    } catch (error) {
      if (mine.signal.aborted) return; // the conversation is over for this browser, and so is what is said in it
      if (!(error instanceof ApiError)) { setBusy(false); throw error; }
      const again = error.code === "offline" || error.code === "turn_running" || error.status >= 502;
      if (again && attempt < RETRIES_MS.length) {
        say("Connection lost. Trying again", "busy bad");
        await pause(RETRIES_MS[attempt]);
        if (mine.signal.aborted) return;
        continue;
      }
      if (error.code === "conversation_unknown") kept.save(null);
      failed(pending, own, drawn, error);
      break;
    }
  }
  expected.clear();
  setBusy(false);
  rest();
}

function failed(pending, own, drawn, error) {
  drawn.bubble?.setBusy(false);
  if (drawn.bubble && !drawn.bubble.text) drawn.reset();
  say("", "");
  const again = () => {
    const next = error.code === "offline" ? { ...pending } : { id: newId(), text: pending.text };
    known.byClient.set(next.id, own);
    ask(next, own);
  };
  const words = error.code === "offline" ? "Not sent: there is no connection." : error.message;
  own.fail(words, () => { if (!busy) again(); });
  if (kept.value) kept.save({ ...kept.value, pending: null });
}

// The attribute would cut a pasted text without a word; here it stays whole and the words say why it cannot be sent.
const longest = Number(field.getAttribute("maxlength"));
field.removeAttribute("maxlength");
function tooLong() {
  const long = field.value.trim().length > longest;
  if (long) say(`The message has ${field.value.trim().length.toLocaleString("en")} characters; ${longest.toLocaleString("en")} are possible. Shorten it.`, "bad long");
  else if (state.classList.contains("long")) say("");
  return long;
}
field.addEventListener("input", tooLong);

function submit() {
  const text = field.value.trim();
  if (!text || busy || tooLong()) return;
  field.value = "";
  const id = newId();
  const own = new Bubble("user", { text, client_id: id });
  own.element.classList.add("waiting");
  rating.hidden = true;
  ask({ id, text }, own);
}

// Where the request for a person stands: the sentence, the button, who one talks with, and an address to leave.
function handedOff(event) {
  const waits = event.state === "waiting" || event.state === "with_person";
  setInLine(waits);
  who.textContent = event.state === "with_person" ? `You are talking with ${event.operator || "a person"}, a person of our team.`
    : event.state === "waiting" ? "You are waiting for a person of our team." : aiWords;
  contact.hidden = !(event.state === "waiting" && event.away && !event.contact);
  if (event.state === "with_person") { say(""); return; }
  const place = event.position > 0 ? ` You are number ${event.position} in line.` : "";
  const hours = event.hours ? ` Hours: ${event.hours}.` : "";
  say(event.notice ?? (waits ? `${event.message || "A colleague from our team will answer here."}${place}${hours}` : event.message ?? ""));
}

function stand(event) {
  const before = standing;
  standing = event.state;
  if (event.handoff) handedOff(event.handoff);
  else if (before === "waiting" || before === "with_person") handedOff({ state: "open", notice: standing === "open" ? "You are back with the AI assistant." : "" });
  const closed = standing === "closed";
  form.hidden = closed;
  $("closed").hidden = !closed;
  if (closed) say("");
  dropCards(event.confirm?.action_id);
  if (event.confirm) askToConfirm(event.confirm);
  rest();
}

function askToConfirm(event) {
  confirmCard(event, async (yes) => {
    const asked = cursor;
    try {
      for await (const part of await decide(kept.value, event.action_id, yes)) { /* what came of it is told like any message */ if (part.type === "error") throw new ApiError(part.code, part.message); }
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "action_unknown") throw error;
    }
    await pause(3000);
    if (cursor === asked && kept.value) await restore();
  });
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

// One message as the server stored it, from this window, another one, the assistant or a person: shown once, in its place.
function told(message, seq) {
  let bubble = known.byId.get(message.id) ?? (message.client_id ? known.byClient.get(message.client_id) : undefined);
  if (!bubble) {
    if (expected.has(message.id)) return;
    bubble = new Bubble(message.role, message);
    if (message.role === "operator" && document.hidden) document.title = `● ${title}`;
  }
  bubble.element.classList.remove("waiting");
  bubble.placeAt(seq);
  rest();
}

// Follows the conversation for as long as the window is looked at, or a person is waited for; goes on where it broke off.
async function listen() {
  if (watching || !kept.value) return;
  const mine = watching = new AbortController();
  const begun = await attach(mine);
  follow(mine, begun);
}

const attach = (mine) => watch(kept.value, cursor, mine.signal).catch((error) => error);

async function follow(mine, events) {
  for (let wait = 500; watching === mine; wait = Math.min(wait * 2, 15000)) {
    try {
      if (events instanceof Error) throw events;
      for await (const event of events) {
        wait = 500;
        if (event.type === "message") told(event.message, event.seq);
        else if (event.type === "state") stand(event);
        else if (event.type === "reload") await restore();
        if (event.seq) cursor = event.seq;
      }
    } catch (error) {
      if (error.name === "AbortError" || error.code === "conversation_unknown") return;
      if (!(error instanceof ApiError)) throw error;
    }
    if (standing === "closed") return;
    await pause(wait);
    if (watching === mine) events = await attach(mine);
  }
}

function stopListening() {
  watching?.abort();
  watching = null;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) { document.title = title; listen(); rest(); }
  else if (standing === "open" && !busy) stopListening();
});

// --- the rating: asked for once, when nothing has been said for a while or the conversation was closed ----------------------

function rest() {
  clearTimeout(quiet);
  const answered = log.querySelector(".message.user:not(.failed) ~ .message:is(.assistant, .operator)");
  if (standing === "waiting" || standing === "with_person") rating.hidden = true;
  if (rated || busy || !kept.value || !answered || standing === "waiting" || standing === "with_person") return;
  const after = standing === "closed" ? 1000 : Number(rating.dataset.after) * 1000;
  quiet = setTimeout(askForRating, after);
}

async function askForRating() {
  if (document.hidden || !kept.value || !rating.hidden || field.value.trim()) return;
  const { id } = kept.value;
  try {
    if (!kept.value.asking && !(await mayAskForRating(kept.value))) { rated = true; return; }
    if (kept.value?.id !== id) return;
    note(id, { asking: true });
    rating.hidden = false;
    scrollToEnd();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

// Another window of this browser has rated, or put it off: nobody is asked twice.
addEventListener("storage", (event) => {
  if (event.key !== KEY || !kept.value?.asking) return;
  const other = event.newValue ? JSON.parse(event.newValue) : null;
  if (other?.id !== kept.value.id || other.asking) return;
  kept.value.asking = false;
  rated = true;
  rating.hidden = true;
});

function doneRating(words) {
  rated = true;
  rating.hidden = true;
  if (kept.value) kept.save({ ...kept.value, asking: false });
  say(words);
  if (standing !== "closed") field.focus();
}

rating.addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(event.target), value = given.get("value"), solved = given.get("solved");
  if (event.submitter?.value === "later") { doneRating(""); return; }
  try {
    const { notice } = await rate(kept.value, {
      value: value ? Number(value) : null, solved: solved === null ? null : solved === "1", text: given.get("comment") ?? "",
    });
    doneRating(notice);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    rating.querySelector(".said").textContent = error.message;
  }
});

contact.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = contact.querySelector(".said");
  try {
    handedOff(await leaveContact(kept.value, new FormData(event.target).get("email")));
    field.focus();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    said.textContent = error.message;
  }
});

// Shows the conversation as the server knows it. Resolves with the bubbles, oldest first.
async function restore() {
  const { id } = kept.value, whole = await getConversation(kept.value), { messages } = whole;
  if (kept.value?.id !== id) return [];
  clear();
  cursor = whole.cursor;
  rated = whole.rated;
  if (messages[0]?.role === "assistant" && messages[0].text === greeting) messages.shift();
  const bubbles = messages.map((message) => new Bubble(message.role, message));
  for (const bubble of bubbles) bubble.element.dataset.seq = "0";
  scrollToEnd();
  say("");
  stand(whole);
  if (kept.value.asking && !rated) askForRating();
  return bubbles;
}

async function comeBack() {
  if (!kept.load()) return;
  kept.save(kept.value);
  const { id, pending } = kept.value;
  try {
    const bubbles = await restore();
    listen();
    if (!pending || kept.value?.id !== id) return;
    // The message was on its way when the page went: attach to its answer by its id, unless the answer is already there.
    const asked = bubbles.findLastIndex((bubble) => bubble.clientId === pending.id);
    if (asked >= 0 && asked < bubbles.length - 1) kept.save({ ...kept.value, pending: null });
    else await ask(pending, bubbles[asked] ?? new Bubble("user", { text: pending.text, client_id: pending.id }));
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

// Opinions go out one after another, so that the last one given is also the last to arrive and the page shows what is kept.
let opinions = Promise.resolve();
log.addEventListener("submit", (event) => {
  event.preventDefault();
  const conversation = kept.value, box = event.target, button = event.submitter;
  opinions = opinions.catch(() => { /* told by the browser; the next one goes out all the same */ }).then(() => giveOpinion(conversation, box, button));
});

// What the customer does while the answer is on its way is theirs: a field in use keeps the keyboard, new words stay.
async function giveOpinion(conversation, box, button) {
  const said = box.querySelector(".said"), wrong = box.querySelector(".wrong");
  const message = box.elements.namedItem("message").value, comment = box.elements.namedItem("comment");
  const isThumb = button?.name === "thumb", text = comment.value;
  if (!isThumb && !text.trim()) { comment.focus(); return; }
  try {
    const answer = await judge(conversation, isThumb
      ? { message, kind: "thumb", value: Number(button.value) }
      : { message, kind: "comment", text });
    said.textContent = answer.notice;
    const free = document.activeElement !== field;
    if (isThumb) {
      for (const other of box.querySelectorAll("[name=thumb]")) other.setAttribute("aria-pressed", String(other === button));
      if (button.value === "0") {
        wrong.open = true;
        if (free) comment.focus();
      }
    } else if (comment.value === text) {
      comment.value = "";
      wrong.open = false;
      if (free) wrong.querySelector("summary").focus();
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    said.textContent = error.message;
  }
}

// A passage that opens below the fold comes into view ("toggle" does not bubble).
log.addEventListener("toggle", ({ target }) => { if (target.open && !busy) target.scrollIntoView({ block: "nearest" }); }, true);

// Signing out ends the conversation for this browser: the next to sit here must not read on.
function takeIdentity(token) {
  const out = identity && !token;
  identity = token;
  if (out && kept.value) startAgain();
}

function startAgain(event) {
  event?.preventDefault();
  stopListening();
  asking?.abort();
  expected.clear();
  setBusy(false);
  kept.save(null);
  clear();
  cursor = null;
  rating.hidden = true;
  stand({ state: "open", handoff: { state: "open" }, confirm: null });
  say("A new conversation.");
  field.focus();
}
$("restart").addEventListener("click", startAgain);
$("closed").addEventListener("submit", startAgain);

addEventListener("offline", () => say("You are offline. Messages wait until you are back.", "bad"));
addEventListener("online", () => { if (!busy) say("You are back online."); });

if (framed) {
  addEventListener("keydown", (event) => { if (event.key === "Escape") parent.postMessage({ fairlead: "close" }, "*"); });
  addEventListener("message", (event) => {
    if (event.source !== parent) return;
    if (event.data?.fairlead === "opened") field.focus();
    if (event.data?.fairlead === "identity") takeIdentity(String(event.data.token ?? ""));
  });
}

await comeBack();
document.documentElement.dataset.ready = "yes";
