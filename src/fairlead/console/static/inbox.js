// The inbox, live: follows what the server says has changed, keeps what is typed, says that its operator is there.
// The server draws; this fetches the same page again and takes over the parts that differ. Every step works without it.

const root = document.querySelector("[data-live]");
const csrf = () => root.ownerDocument.querySelector("input[name=csrf]").value;
const BEAT_MS = 15000, TYPED_MS = 800;
// Not location: after a form that was refused it names the step, which must not be taken again.
const here = root.dataset.handoff ? `/console/inbox/${root.dataset.handoff}` : "/console/inbox";

// A page as a document. An XMLHttpRequest parses without running anything, and trusted types leave it alone.
const fetchPage = (address) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open("GET", address);
  request.responseType = "document";
  request.onload = () => (request.status === 200 && request.response?.querySelector("[data-live]")
    ? resolve(request.response) : reject(new Error(`the page answered ${request.status}`)));
  request.onerror = () => reject(new Error("no connection"));
  request.send();
});

const busyIn = (part) => part.contains(document.activeElement) && /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
const partsOf = (page) => new Map([...page.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));

// Where the keyboard is, in words that still hold when the part around it was exchanged.
function place() {
  const at = document.activeElement, row = at?.closest("[data-key]");
  if (!row || !root.contains(row)) return null;
  const index = [...row.querySelectorAll("a, button, input, summary")].indexOf(at);
  return () => root.querySelector(`[data-key="${CSS.escape(row.dataset.key)}"]`)?.querySelectorAll("a, button, input, summary")[index]?.focus();
}

// Messages are only added, so that a screen reader hears each once; other parts are exchanged where they differ.
function takeOver(fresh) {
  const log = document.getElementById("transcript"), told = fresh.getElementById("transcript"), back = place();
  if (log && told) {
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    for (const message of told.querySelectorAll(":scope > [data-key]")) {
      if (!log.querySelector(`[data-key="${CSS.escape(message.dataset.key)}"]`)) log.append(document.importNode(message, true));
    }
    if (told.querySelector("[data-key]")) log.querySelector(".empty")?.remove();
    if (follow) log.scrollTop = log.scrollHeight;
  }
  const old = partsOf(root), now = partsOf(fresh);
  let before = null;
  for (const [name, part] of now) {
    const mine = old.get(name);
    if (mine && (mine.isEqualNode(part) || busyIn(mine))) { before = mine; continue; }
    const added = document.importNode(part, true);
    if (mine) mine.replaceWith(added);
    else if (before) before.after(added);
    else root.prepend(added);
    before = added;
  }
  for (const [name, part] of old) if (!now.has(name) && !busyIn(part)) part.remove();
  if (document.activeElement === document.body) back?.();
}

const sameHolder = (fresh) => {
  const other = fresh.querySelector("[data-live]");
  return "mine" in root.dataset === "mine" in other.dataset && root.dataset.state === other.dataset.state;
};

// A form takes the page elsewhere; what changed by it must not bring it back.
let leaving = false;
addEventListener("submit", (event) => { leaving = !event.defaultPrevented && event.target.method !== "dialog"; });
addEventListener("pageshow", () => { leaving = false; });

let asking = null;
async function refresh() {
  if (leaving) return;
  if (asking) { asking = "again"; return; }
  asking = "once";
  try {
    const fresh = await fetchPage(here);
    if (leaving) return;
    if (root.dataset.handoff && !sameHolder(fresh)) {
      // Someone took it, gave it back or ended it: another page altogether. What was typed is kept for it.
      unsent.save(field?.value ?? "");
      location.replace(here);
      return;
    }
    takeOver(fresh);
    const badge = fresh.querySelector(".rail .inbox-link"), old = document.querySelector(".rail .inbox-link");
    if (badge && old && !old.isEqualNode(badge)) old.replaceWith(document.importNode(badge, true));
    propose();
    tick();
  } catch {
    later();
  } finally {
    const again = asking === "again";
    asking = null;
    if (again) refresh();
  }
}
const later = () => setTimeout(refresh, 2000);

// The browser opens it again by itself and says which state it has seen; the mark in the address is the page's own.
function listen() {
  const address = new URL(root.dataset.live, location.href);
  address.searchParams.set("mark", root.dataset.mark);
  const source = new EventSource(address);
  source.addEventListener("changed", refresh);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000); });
}

async function post(step, fields = {}) {
  const response = await fetch(`/console/inbox/${root.dataset.handoff}/${step}`, {
    method: "POST", headers: { accept: "application/json" },
    body: new URLSearchParams({ csrf: csrf(), ...fields }), redirect: "error",
  });
  if (response.ok) return response.json();
  let message = `The server answered ${response.status}.`;
  try { message = (await response.json()).error.message; } catch { /* a proxy's page: the status says enough */ }
  throw new Error(message);
}

// --- answering ------------------------------------------------------------------------------------------------------

const field = document.getElementById("answer"), form = document.getElementById("reply"), problem = document.getElementById("problem");
let typed = 0, sending = null;

// What was typed and not sent, for this tab: the server keeps it too, as long as the conversation is this operator's.
const unsent = {
  name: `fairlead-draft-${root.dataset.handoff}`,
  save(text) { try { text.trim() ? sessionStorage.setItem(this.name, text) : sessionStorage.removeItem(this.name); } catch { /* forbidden */ } },
  load() { try { return sessionStorage.getItem(this.name) ?? ""; } catch { return ""; } },
};

function complain(text) {
  problem.hidden = !text;
  problem.textContent = text ? `▲ ${text}` : "";
}

// One at a time, so that an older draft cannot arrive after a newer one; a page just opened has no draft to keep.
let keeping = null, sent = field?.defaultValue;
function keep() {
  const text = field.value;
  unsent.save(text);
  if (keeping) { keeping = "again"; return; }
  keeping = "once";
  post("hold", text === sent ? {} : { draft: text }).then(
    () => {
      sent = text;
      if (text === field.value) document.getElementById("kept").textContent = text ? "Draft kept." : "";
      complain("");
    },
    (error) => complain(error instanceof TypeError ? "No connection. What you type stays on this page." : error.message),
  ).finally(() => {
    const again = keeping === "again";
    keeping = null;
    if (again) keep();
  });
}

// As the server makes them (RFC 9562, version 7): the time in milliseconds, then chance.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let place = 5, time = Date.now(); place >= 0; place -= 1, time = Math.floor(time / 256)) bytes[place] = time % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

let tried = null;
async function reply() {
  if (sending) { sending = "again"; return; }
  if (!field.value.trim()) return;
  sending = "once";
  clearTimeout(typed);
  const text = field.value, button = form.querySelector("button");
  // What was sent and not heard of may have arrived: other words under its id would be taken for it.
  if (tried !== null && tried !== text) form.elements.id.value = newId();
  tried = text;
  button.disabled = true;
  try {
    const { next } = await post("reply", { text, id: form.elements.id.value, suggested: form.elements.suggested.value });
    tried = null;
    form.elements.id.value = next;
    form.elements.suggested.value = "0";
    sent = "";  // with an answer the server drops the draft
    if (field.value === text) field.value = "";
    unsent.save(field.value);
    document.getElementById("kept").textContent = "Sent.";
    complain("");
    refresh();
  } catch (error) {
    // The id stays, so that sending again cannot say it twice.
    complain(error instanceof TypeError ? "No connection. Not sent; press Send again." : error.message);
  } finally {
    const again = sending === "again";
    sending = null;
    button.disabled = false;
    field.focus();
    if (again) reply();
  }
}

async function propose() {
  const part = root.querySelector("[data-part=suggestion]"), ask = document.getElementById("suggest");
  if (part?.dataset.asked !== "no" || !ask || !("mine" in root.dataset) || part.dataset.busy) return;
  part.dataset.busy = "yes";
  try { await post("suggest"); refresh(); } catch { /* the button is still there */ }
}

if (form) {
  addEventListener("click", (event) => {
    if (event.target.id !== "use") return;
    event.preventDefault();
    const text = document.getElementById("proposed").textContent;
    field.value = field.value.trim() ? `${field.value.trimEnd()}\n${text}` : text;
    form.elements.suggested.value = "1";
    field.focus();
    keep();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); reply(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); reply(); }
  });
  field.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(keep, TYPED_MS); });
  field.value ||= unsent.load();
  field.setSelectionRange(field.value.length, field.value.length);
  keep();
  setInterval(keep, BEAT_MS);
  // Closing the tab gives the customer back to the queue soon; a reload is quicker than that.
  addEventListener("pagehide", () => {
    unsent.save(field.value);
    const body = new URLSearchParams({ csrf: csrf(), draft: field.value });
    navigator.sendBeacon(`/console/inbox/${root.dataset.handoff}/leave`, body);
  });
  addEventListener("pageshow", (event) => { if (event.persisted) keep(); });
}

if (!form && unsent.load() && root.dataset.handoff) complain(`You typed, but did not send: ${unsent.load()}`);

// --- clocks ---------------------------------------------------------------------------------------------------------

const inWords = (seconds) => (seconds >= 7200 ? `${Math.floor(seconds / 3600)}\u202fh`
  : seconds >= 60 ? `${Math.floor(seconds / 60)}\u202fmin` : `${Math.max(0, Math.floor(seconds))}\u202fs`);

function tick() {
  const now = Date.now();
  for (const clock of document.querySelectorAll("[data-due]")) {
    const left = Number(clock.dataset.due) / 1e6 - now / 1000;
    clock.classList.toggle("fail", left < 0);
    clock.textContent = left < 0 ? `▲ overdue since ${inWords(-left)}` : `${inWords(left)} left`;
  }
  for (const clock of document.querySelectorAll("[data-since]")) clock.textContent = inWords(now / 1000 - Number(clock.dataset.since) / 1e6);
}

const log = document.getElementById("transcript");
if (log) log.scrollTop = log.scrollHeight;
tick();
setInterval(tick, 1000);
listen();
propose();
root.dataset.following = "yes";
