// The keys: j and k walk, n finds the next hit, / the search, ? tells them, Ctrl+Enter sends a form.
"use strict";

const keys = document.getElementById("keys");
const hint = document.getElementById("keys-hint");
hint.hidden = false;
hint.querySelector("button").addEventListener("click", () => keys.showModal());

function walk(step) {
  const places = [...document.querySelectorAll("article.message, .threads tbody .title")];
  const focused = places.findIndex((place) => place.contains(document.activeElement));
  const seen = places.findIndex((place) => place.getBoundingClientRect().bottom > 60);
  const next = focused < 0 ? seen : focused + step;
  const place = places[Math.min(Math.max(next, 0), places.length - 1)];
  place?.focus();
  place?.scrollIntoView({ block: "nearest" });
}

const ACTIONS = {
  j: () => walk(1),
  k: () => walk(-1),
  n: () => document.getElementById("next-hit")?.click(),
  "?": () => keys.showModal(),
};
const search = document.querySelector("[data-slash]");
if (search) {
  ACTIONS["/"] = () => {
    search.select();
    search.focus();
  };
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = event.target.closest("textarea, input, select")?.form;
    form?.requestSubmit(form.querySelector("button:not([type=button])"));
    return;
  }
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !ACTIONS[event.key]) return;
  event.preventDefault();
  ACTIONS[event.key]();
});
