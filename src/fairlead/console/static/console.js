// The console's comforts: keys (j k / ?), sortable tables. Every page is complete without it.

const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
const help = document.getElementById("help");
let at = -1;

function go(step) {
  const all = rows();
  if (!all.length) return;
  all[at]?.classList.remove("at");
  at = Math.max(0, Math.min(all.length - 1, at + step));
  const row = all[at];
  row.classList.add("at");
  const target = row.querySelector("a, summary");
  if (target) target.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

const typing = (element) => element instanceof HTMLElement
  && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (help.open) return;
  if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) { location.assign("/console/conversations"); return; }
    event.preventDefault();
    search.focus();
    search.select?.();
  } else if (event.key === "?") help.showModal();
});

// Sorting what is on the page; which rows are on it is the server's business (see the pager).
const valueOf = (row, column) => {
  const text = row.cells[column]?.textContent.trim() ?? "";
  const number = Number(text.replace(/[\s\u202f]/g, ""));
  return text !== "" && !Number.isNaN(number) ? number : text.toLowerCase();
};

function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = [...table.tBodies[0].rows].sort((a, b) => compare(valueOf(a, column), valueOf(b, column)) * (down ? -1 : 1));
      table.tBodies[0].append(...sorted);
      at = -1;
    });
    head.append(button);
  });
}

// On a phone the rail scrolls sideways: show where one is, and on which side there is more.
const rail = document.querySelector(".rail");
function hint() {
  rail.classList.toggle("more-left", rail.scrollLeft > 4);
  rail.classList.toggle("more-right", rail.scrollWidth - rail.clientWidth - rail.scrollLeft > 4);
}
document.querySelector(".rail [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
rail?.addEventListener("scroll", hint, { passive: true });
addEventListener("resize", hint);
if (rail) hint();
document.documentElement.dataset.ready = "yes";
