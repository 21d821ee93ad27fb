// The messages on the page. Everything that came from elsewhere enters through textContent; markup comes from <template>.

const AUTHORS = { user: "You", assistant: "AI assistant", operator: "A person of our team" };
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
  constructor(role, { id = "", text = "", sources = [], cards = [], thumb = null, client_id = "", act = "" } = {}) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.className = `message ${role}`;
    this.role = role;
    this.clientId = client_id;
    this.text = "";
    this.sources = [];
    this.element.querySelector(".author").textContent = AUTHORS[role] ?? role;
    this.body = this.element.querySelector(".text");
    this.judge = this.element.querySelector(".judge");
    if (role !== "assistant" || act === "waiting") this.judge.remove();
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
    this.element.dataset.message = id;
    this.judge.elements.namedItem("message").value = id;
    this.judge.hidden = !id || this.busy === true;
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

  remove() { this.element.remove(); }
}

export function clear() {
  for (const element of log.querySelectorAll(".message:not(.greeting)")) element.remove();
}
