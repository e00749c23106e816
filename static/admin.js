// Adds to the browse page what it can do without: copying, live lengths, menus that close.
"use strict";

const status = document.getElementById("status");
const copyOf = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Show a line, for a moment or until the caller removes it. Return it. */
function say(text, lasts = false) {
  const line = document.createElement("p");
  line.className = "flash toast";
  line.textContent = text;
  status.replaceChildren(line);
  if (!lasts) setTimeout(() => line.remove(), 4000);
  return line;
}

async function copy(button, source) {
  try {
    const text = source.hasAttribute("title") ? source.title : source.textContent;
    await navigator.clipboard.writeText(text);
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
    say("Copied.");
  } catch {
    if (source.title) source.textContent = source.title;
    getSelection().selectAllChildren(source);
    say("Selected: copy it with the keyboard.");
  }
}

function offerCopies(root) {
  for (const source of root.querySelectorAll("[data-copy]")) {
    const button = copyOf("copy-button");
    button.title = source.dataset.copy;
    button.setAttribute("aria-label", source.dataset.copy);
    button.addEventListener("click", () => copy(button, source));
    source.after(button);
  }
}
offerCopies(document);

for (const field of document.querySelectorAll("[data-limit]")) {
  const limit = Number(field.dataset.limit);
  const counter = document.createElement("span");
  counter.className = "counter";
  counter.setAttribute("aria-hidden", "true");
  field.after(counter);
  const count = () => {
    const length = [...field.value].length;
    counter.textContent = length ? `${length.toLocaleString("en")} / ${limit.toLocaleString("en")}` : "";
    counter.classList.toggle("over", length > limit);
  };
  field.addEventListener("input", count);
  count();
}

for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}

for (const form of document.querySelectorAll("form[method=post]")) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
    event.submitter?.setAttribute("aria-busy", "true");
  });
  const free = () => {
    sent = false;
    for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
  };
  addEventListener("pageshow", free);
  form.addEventListener("input", free); // a person who stopped the sending tries something else
}
