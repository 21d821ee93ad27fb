// The embeddable chat: one script tag on any page makes a button and a frame. Everything else happens inside the frame.
//   <script src="https://chat.example/widget.js" data-label="Help" data-position="left" async></script>
// Who is signed in on that page, if it says so: data-identity="TOKEN", or fairleadWidget.identify("TOKEN") at any time and
// identify("") at signing out. A token that is refused makes the event "fairlead-identity-refused" on the page's window.
// No cookies, no styles outside its own shadow tree, no reading of the page it stands on.
(() => {
  const script = document.currentScript;
  if (!script || window.fairleadWidget) return;
  const origin = new URL(script.src).origin;
  const label = script.dataset.label || "Chat with us";
  let identity = script.dataset.identity || "";
  const side = script.dataset.position === "left" ? "left" : "right";

  const styles = `
    :host { all: initial; }
    .box { position: fixed; ${side}: 16px; bottom: 16px; z-index: 2147483000; display: flex; flex-direction: column; gap: 8px;
      align-items: ${side === "left" ? "flex-start" : "flex-end"}; font: 16px/1.4 system-ui, sans-serif; color-scheme: light dark; }
    button { font: inherit; font-weight: 600; padding: 10px 18px; border: 0; border-radius: 999px; cursor: pointer; min-height: 44px;
      background: #0b5cad; color: #fff; box-shadow: 0 2px 8px rgb(0 0 0 / .25); }
    button:hover { background: #0a4f95; }
    button:focus-visible { outline: 3px solid #fff; box-shadow: 0 0 0 5px #0b5cad; }
    iframe { border: 1px solid #868f98; border-radius: 8px; width: min(400px, calc(100vw - 32px)); height: min(640px, calc(100vh - 92px));
      background: Canvas; box-shadow: 0 4px 24px rgb(0 0 0 / .2); }
    iframe[hidden] { display: none; }`;

  function build() {
    const host = document.createElement("div");
    const root = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(styles);
    root.adoptedStyleSheets = [sheet];
    const box = document.createElement("div");
    box.className = "box";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.setAttribute("aria-expanded", "false");
    const frame = document.createElement("iframe");
    frame.title = label;
    frame.hidden = true;
    box.append(frame, button);
    root.append(box);
    document.body.append(host);

    let loaded = false;
    const tell = (message) => { if (loaded) frame.contentWindow.postMessage(message, origin); };
    const identify = (token) => {
      identity = String(token ?? "");
      tell({ fairlead: "identity", token: identity });
    };
    const show = (open) => {
      if (open && !frame.src) {
        frame.src = `${origin}/widget`;
        frame.addEventListener("load", () => {
          loaded = true;
          if (identity) identify(identity);
          tell({ fairlead: "opened" });
        });
      } else if (open) {
        tell({ fairlead: "opened" });
      }
      frame.hidden = !open;
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? "Close chat" : label;
      if (!open) button.focus();
    };
    button.addEventListener("click", () => show(frame.hidden));
    addEventListener("message", (event) => {
      if (event.source !== frame.contentWindow || event.origin !== origin) return;
      if (event.data?.fairlead === "close") show(false);
      if (event.data?.fairlead === "identity-refused") {
        dispatchEvent(new CustomEvent("fairlead-identity-refused", { detail: { message: String(event.data.message) } }));
      }
    });
    return { open: () => show(true), close: () => show(false), identify };
  }

  const ready = () => { window.fairleadWidget = build(); };
  if (document.body) ready();
  else addEventListener("DOMContentLoaded", ready);
})();
