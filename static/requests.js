// Shows requests as they come. Without this the page is as it was loaded.
"use strict";

const table = document.querySelector("[data-requests]");
const rows = table.tBodies[0];
const rules = document.querySelector("[data-rules]");
const pause = document.querySelector("[data-pause]");
let paused = false;

function fill(row, request) {
  const cell = (name, text) => {
    const place = row.querySelector(`[data-cell=${name}]`);
    place.textContent = text;
    return place;
  };
  row.dataset.id = request.request_id;
  row.toggleAttribute("data-open", request.milliseconds === null);
  row.querySelector(".title").href = `/admin/requests/${request.request_id}`;
  cell("time", "").dateTime = request.time;
  showTimes(row);
  cell("method", request.method);
  cell("address", request.address);
  cell("status", request.status).classList.toggle("failed", request.status >= 400);
  cell("milliseconds", request.milliseconds === null ? "…" : `${request.milliseconds} ms`);
  cell("fault", request.fault).hidden = !request.fault;
  const retry = cell("retry", "retry");
  retry.hidden = !request.retry_of;
  retry.href = `/admin/requests/${request.retry_of}`;
}

function show(requests) {
  for (const request of requests) {
    const known = [...rows.rows].find((row) => row.dataset.id === request.request_id);
    const row = known ?? copyOf("row");
    fill(row, request);
    if (!known) rows.prepend(row);
  }
  while (rows.rows.length > Number(table.dataset.most)) rows.lastElementChild.remove();
  table.hidden = !rows.rows.length;
  document.querySelector("[data-nothing]").hidden = !table.hidden;
}

function showRules(lines) {
  const items = lines.map((line) => Object.assign(document.createElement("li"), { textContent: line }));
  rules.replaceChildren(...items);
  document.querySelector("[data-clear]").hidden = !lines.length;
}

// The request before the oldest stream that goes on: what is behind it may change.
function lastKnown() {
  const open = [...rows.querySelectorAll("[data-open]")].at(-1);
  return (open ? open.nextElementSibling : rows.firstElementChild)?.dataset.id ?? "";
}

async function look() {
  const answer = await fetch(`/admin/requests.json?after=${lastKnown()}`);
  if (answer.status === 404) {
    say("This server shows no requests any more.");
    return false;
  }
  if (isSignedOut(answer) || !answer.ok) return;
  const { data, is_whole, rules } = await answer.json();
  const left = new Set(data.map((request) => request.request_id));
  if (is_whole) for (const row of [...rows.rows]) if (!left.has(row.dataset.id)) row.remove();
  show(data.reverse());
  showRules(rules);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
});
watch(async () => paused || look());
