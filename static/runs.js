// Shows the answer of a run as it is written. Without this the page waits and reloads.
"use strict";

const here = document.querySelector("[data-thread]").dataset.thread;
const end = document.getElementById("end");

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      // A dot leaves out U+2028 and U+2029, which a text may hold.
      const [, name, data] = /^event: ([^\n]*)\ndata: (\{[^\n]*)$/.exec(block) ?? [];
      if (name) yield [name, JSON.parse(data)];
    }
  }
}

// A message that is typed but not sent outlives the page: a run ends with another one.
const typed = document.getElementById("content").form;
const place = `typed ${here}`;

function keepTyped() {
  const { role, content } = typed.elements;
  if (content.value) sessionStorage.setItem(place, JSON.stringify([role.value, content.value]));
}

function bringTyped() {
  const { role, content } = typed.elements;
  const kept = sessionStorage.getItem(place);
  sessionStorage.removeItem(place);
  if (!kept || content.value) return;
  [role.value, content.value] = JSON.parse(kept);
  content.dispatchEvent(new Event("input")); // its length is shown
}

class Panel {
  constructor(token) {
    this.token = token;
    this.panel = copyOf("live");
    this.state = this.panel.querySelector(".state");
    this.stop = this.panel.querySelector("button");
    this.stop.addEventListener("click", () => this.cancel());
    for (const part of end.children) part.hidden = true; // they keep what is typed
    end.append(this.panel);
    this.panel.scrollIntoView({ block: "end" });
  }

  async cancel() {
    this.stop.disabled = true;
    const body = new URLSearchParams({ csrf_token: this.token });
    const headers = { Accept: "application/json" }; // 401 is no redirect then
    // The page that comes when the stream ends shows the notice, not this answer.
    const sent = { method: "POST", body, headers, redirect: "manual" };
    const answer = await fetch(`${here}/runs/${this.run}/cancel`, sent).catch(() => null);
    if (answer?.type === "opaqueredirect") return;
    this.stop.disabled = false;
    if (!answer || !isSignedOut(answer)) say("The run is not stopped: try again.");
  }

  take(name, data) {
    if (data.object === "thread.run") this.show(data);
    if (name === "thread.message.created") this.begin();
    if (name === "thread.message.delta") this.add(data.delta.content);
  }

  show(run) {
    this.stop.disabled = this.stop.disabled && Boolean(this.run);
    this.run = run.id;
    this.state.className = `state ${run.status}`;
    this.state.textContent = run.status.replace("_", " ");
  }

  begin() {
    const message = copyOf("live-message");
    this.text = message.querySelector(".plain");
    document.querySelector(".transcript").append(message);
    this.follow();
  }

  add(parts) {
    for (const part of parts) this.text.append(part.text?.value ?? "");
    this.follow();
  }

  follow() {
    const below = document.documentElement.scrollHeight - scrollY - innerHeight;
    if (below < 160) scrollTo(0, document.documentElement.scrollHeight);
  }
}

async function play(form) {
  const fields = new FormData(form);
  const headers = { Accept: "text/event-stream" };
  const answer = await fetch(form.action, { method: "POST", body: fields, headers }).catch(() => null);
  if (!answer?.headers.get("Content-Type")?.startsWith("text/event-stream")) return form.submit();
  const panel = new Panel(fields.get("csrf_token"));
  try {
    for await (const [name, data] of eventsOf(answer.body)) panel.take(name, data);
  } finally {
    location.replace(end.dataset.end);
  }
}

for (const form of document.querySelectorAll("form[data-stream]")) {
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return; // admin.js: it is sent already
    event.preventDefault();
    play(form);
  });
}

end.addEventListener("submit", (event) => event.target === typed || keepTyped());
bringTyped();
