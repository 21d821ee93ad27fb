// The messages on the page. Everything that came from elsewhere enters through textContent; markup comes from <template>.

const AUTHORS = { user: "You", assistant: "AI assistant", system: "" };
// Every message on the page by its id, and those of this customer by the id their browser gave them.
export const known = { byId: new Map(), byClient: new Map() };
export const UNJUDGED = ["waiting", "confirm", "action"];
const log = document.getElementById("log");
const template = document.getElementById("message-template");

const make = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

const nearEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 80;

function keepAtEnd(change, force = false) {
  const follow = force || nearEnd();
  change();
  if (follow) log.scrollTop = log.scrollHeight;
}

export const scrollToEnd = () => { log.scrollTop = log.scrollHeight; };

export class Bubble {
  constructor(role, { id = "", text = "", sources = [], cards = [], thumb = null, client_id = "", act = "", operator = "" } = {}) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.className = `message ${role}`;
    this.role = role;
    this.clientId = client_id;
    this.text = "";
    this.sources = [];
    const author = this.element.querySelector(".author");
    author.textContent = role === "operator" ? `${operator || "A person"}, a person of our team` : AUTHORS[role] ?? role;
    if (!author.textContent) author.remove();
    if (client_id) known.byClient.set(client_id, this);
    this.body = this.element.querySelector(".text");
    this.judge = this.element.querySelector(".judge");
    if (role !== "assistant" || UNJUDGED.includes(act)) this.judge.remove();
    this.setId(id);
    if (text) this.setText(text);
    if (sources.length) this.setSources(sources);
    for (const card of cards) this.addCard(card);
    if (thumb !== null) this.press(String(thumb));
    this.judge.hidden = !id;
    keepAtEnd(() => log.append(this.element), role === "user");
  }

  setId(id) {
    this.id = id;
    if (id) known.byId.set(id, this);
    this.element.dataset.message = id;
    this.judge.elements.namedItem("message").value = id;
    this.judge.hidden = !id || this.busy === true;
  }

  // Its place among the others is the order in which the server stored them; what is still on its way stays last.
  placeAt(seq) {
    this.element.dataset.seq = seq;
    const later = [...log.querySelectorAll(".message[data-seq]")].find((other) => Number(other.dataset.seq) > seq);
    const pending = [...log.querySelectorAll(".message:not(.greeting):not([data-seq])")].find((other) => other !== this.element);
    const next = later ?? pending;
    if (next && !(this.element.compareDocumentPosition(next) & Node.DOCUMENT_POSITION_FOLLOWING)) keepAtEnd(() => next.before(this.element));
  }

  setText(text) {
    this.text = text;
    keepAtEnd(() => this.#draw());
  }

  addText(text) {
    this.text += text;
    keepAtEnd(() => this.body.append(text));
  }

  setBusy(busy) {
    this.busy = busy;
    this.element.setAttribute("aria-busy", String(busy));
    this.judge.hidden = busy || !this.id;
    if (!busy) keepAtEnd(() => this.#draw());
  }

  // A [2] that names one of the sources becomes a link to it; any other stays text.
  #draw() {
    const pieces = this.text.split(/\[(\d{1,2})\]/);
    this.body.replaceChildren(...pieces.map((piece, index) => {
      if (index % 2 === 0) return piece;
      const number = Number(piece);
      if (number < 1 || number > this.sources.length) return `[${piece}]`;
      const link = make("a", "cite", piece);
      link.href = `#${this.id}-${number}`;
      link.setAttribute("aria-label", `Source ${number}`);
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const details = this.element.querySelectorAll(".sources details")[number - 1];
        details.open = true;
        details.querySelector("summary").focus();
      });
      return link;
    }));
  }

  setSources(sources) {
    this.sources = sources;
    const list = make("div", "sources");
    sources.forEach((source, index) => {
      const details = make("details");
      const summary = make("summary");
      summary.append(make("b", "", String(index + 1)), ` ${source.title}`);
      const quote = make("blockquote", "", source.text);
      quote.id = `${this.id}-${index + 1}`;
      details.append(summary, quote);
      list.append(details);
    });
    this.element.querySelector(".sources")?.remove();
    keepAtEnd(() => { this.judge.parentElement ? this.judge.before(list) : this.element.append(list); this.#draw(); });
  }

  addCard({ title, rows }) {
    const card = make("section", "facts");
    const list = make("dl");
    for (const [label, value] of rows) {
      const row = make("div");
      row.append(make("dt", "", String(label)), make("dd", "", String(value)));
      list.append(row);
    }
    card.append(make("h3", "", title ?? ""), list);
    keepAtEnd(() => [...this.element.querySelectorAll(".text, .facts")].at(-1).after(card));
  }

  press(value) {
    for (const button of this.judge.querySelectorAll("[name=thumb]")) {
      button.setAttribute("aria-pressed", String(button.value === value));
    }
    this.judge.querySelector(".wrong").open = value === "0" && this.judge.contains(document.activeElement);
  }

  // A user's message that did not arrive: say so, offer to send it again.
  fail(reason, again) {
    this.element.classList.remove("waiting");
    this.element.classList.add("failed");
    const line = make("p", "failure");
    const button = make("button", "", "Try again");
    button.type = "button";
    button.addEventListener("click", () => { this.recover(); again(); });
    line.append(reason, button);
    this.element.querySelector(".failure")?.remove();
    keepAtEnd(() => this.element.append(line), true);
  }

  recover() {
    this.element.classList.remove("failed");
    this.element.querySelector(".failure")?.remove();
  }

  remove() {
    this.element.remove();
    known.byId.delete(this.id);
  }
}

export function clear() {
  for (const element of log.querySelectorAll(".message:not(.greeting), .confirm")) element.remove();
  known.byId.clear();
  known.byClient.clear();
}

// What would be done, with two buttons that can be pressed once. ``answer`` is given true or false, and may reject.
export function confirmCard({ action_id, title, rows, yes, no }, answer) {
  if (log.querySelector(`.confirm[data-action="${CSS.escape(action_id)}"]`)) return;
  const card = document.getElementById("confirm-template").content.firstElementChild.cloneNode(true);
  card.dataset.action = action_id;
  card.setAttribute("aria-label", title);
  card.querySelector("h3").textContent = title;
  for (const [label, value] of rows ?? []) {
    const row = make("div");
    row.append(make("dt", "", String(label)), make("dd", "", String(value)));
    card.querySelector("dl").append(row);
  }
  const buttons = [...card.querySelectorAll("button")], said = card.querySelector(".said");
  buttons[0].textContent = yes || buttons[0].textContent;
  buttons[1].textContent = no || buttons[1].textContent;
  for (const button of buttons) {
    button.addEventListener("click", async () => {
      if (card.dataset.pressed) return;
      card.dataset.pressed = "yes";
      for (const each of buttons) each.disabled = true;
      said.textContent = "One moment";
      try {
        await answer(button === buttons[0]);
        card.remove();
      } catch (error) {
        said.textContent = error.message;
        delete card.dataset.pressed;
        for (const each of buttons) each.disabled = false;
      }
    });
  }
  keepAtEnd(() => log.append(card), true);
}

// Cards of other actions than the one that still waits: answered in another window, or too late.
export function dropCards(waiting) {
  for (const card of log.querySelectorAll(".confirm")) {
    if (card.dataset.action !== waiting && !card.dataset.pressed) card.remove();
  }
}
