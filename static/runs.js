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
      const [, name, data] = /^event: (.*)\ndata: (\{.*)$/.exec(block) ?? [];
      if (name) yield [name, JSON.parse(data)];
    }
  }
}

class Panel {
  constructor(token) {
    this.token = token;
    this.panel = copyOf("live");
    this.state = this.panel.querySelector(".state");
    this.stop = this.panel.querySelector("button");
    this.stop.addEventListener("click", () => this.cancel());
    end.replaceChildren(this.panel);
    this.panel.scrollIntoView({ block: "end" });
  }

  cancel() {
    this.stop.disabled = true;
    const body = new URLSearchParams({ csrf_token: this.token });
    // The page that comes when the stream ends shows the notice, not this answer.
    fetch(`${here}/runs/${this.run}/cancel`, { method: "POST", body, redirect: "manual" });
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
  const fields = new URLSearchParams(new FormData(form));
  const headers = { Accept: "text/event-stream" };
  const answer = await fetch(form.action, { method: "POST", body: fields, headers }).catch(() => null);
  if (!answer?.headers.get("Content-Type")?.startsWith("text/event-stream")) return form.submit();
  const panel = new Panel(fields.get("csrf_token"));
  try {
    for await (const [name, data] of eventsOf(answer.body)) panel.take(name, data);
  } finally {
    location.replace(`${here}/end`);
  }
}

for (const form of document.querySelectorAll("form[data-stream]")) {
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return; // admin.js: it is sent already
    event.preventDefault();
    play(form);
  });
}
