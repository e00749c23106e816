// Shows the API document with Swagger UI, in the browser's theme, and names what that leaves unnamed.
"use strict";

const NAMES = {
  "select#servers": "Server",
  "textarea.body-param__text": "Request body",
  ".information-container": "About",
  ".scheme-container": "Server and key",
  ".close-modal": "Close",
};
const LEVELS = { "h1.title": 2, ".auth-container h6": 5 };

const docs = document.getElementById("docs");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

function name(part, text) {
  part.setAttribute("aria-label", text);
  if (part.tagName === "DIV") part.setAttribute("role", "region");
}

function mend() {
  const all = (selector) => docs.querySelectorAll(selector);
  for (const [selector, text] of Object.entries(NAMES)) for (const part of all(selector)) name(part, text);
  for (const part of all("tr[data-param-name] :is(select, textarea)")) name(part, part.closest("tr").dataset.paramName);
  for (const part of all("table[role=region]")) name(part, part.id.replaceAll("_", " "));
  for (const [selector, level] of Object.entries(LEVELS)) {
    for (const part of all(selector)) part.setAttribute("aria-level", level);
  }
  for (const part of all("pre.microlight")) part.tabIndex = 0;
}

dark.addEventListener("change", follow);
follow();
new MutationObserver(mend).observe(docs, { childList: true, subtree: true });
window.SwaggerUIBundle({ domNode: docs, url: docs.dataset.document, validatorUrl: null, defaultModelsExpandDepth: 0 });
