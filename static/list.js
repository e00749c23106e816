// The list of threads: selection, news as they come, dates of this time zone, words not yet sent.
"use strict";

{
  const chosen = document.getElementById("chosen");
  const filters = document.querySelector(".filters");
  const rows = () => [...document.querySelectorAll("[data-row]")];
  const boxes = () => rows().map((row) => row.querySelector("input[name=id]"));
  const number = (count) => count.toLocaleString("en");

  async function readJson(address) {
    try {
      const answer = await fetch(address);
      return !isSignedOut(answer) && answer.ok ? await answer.json() : null;
    } catch {
      return null; // the server is away, perhaps for a moment
    }
  }

  // Selection.

  function countSelected() {
    const every = chosen.elements.all;
    const page = chosen.querySelector("[data-select-all]");
    const count = boxes().filter((box) => box.checked).length;
    const total = every?.checked ? every.dataset.total ?? "All" : number(count);
    const isSome = total !== "0";
    chosen.querySelector("[data-selected]").textContent = isSome ? `${total} selected:` : "";
    chosen.classList.toggle("selecting", isSome);
    for (const box of boxes()) box.disabled = Boolean(every?.checked);
    for (const button of chosen.querySelectorAll(".selection button")) button.disabled = !isSome;
    chosen.querySelector(".selection .menu").inert = !isSome;
    page.checked = count > 0 && count === boxes().length;
    page.indeterminate = count > 0 && !page.checked;
    if (isSome && every && !every.dataset.total) countMatches(every);
  }

  async function countMatches(every) {
    every.dataset.total = "All";
    const query = new URLSearchParams(location.search);
    query.set("all", "1");
    const found = await readJson(`/admin/threads/count.json?${query}`);
    if (!found) return;
    every.dataset.total = `${number(found.count)}${found.has_more ? "+" : ""}`;
    chosen.querySelector("[data-matches]").textContent = ` ${every.dataset.total}`;
    countSelected();
  }

  function startSelection() {
    chosen.querySelector("[data-select-all]").parentElement.hidden = false;
    chosen.addEventListener("change", (event) => {
      if (event.target.matches("[data-select-all]")) {
        for (const box of boxes()) box.checked = event.target.checked;
      }
      countSelected();
    });
    addEventListener("pageshow", countSelected);
    countSelected();
  }

  // News.

  const news = document.getElementById("news");
  const bar = copyOf("news");
  let shown = states();

  function states() {
    return new Map(rows().map((row) => [row.dataset.row, row.dataset.state]));
  }

  function tell(fresh, active, isFull) {
    const counts = [
      [fresh, "new thread", "new threads"],
      [active, "thread with news", "threads with news"],
    ].filter(([count]) => count);
    const plus = isFull ? "+" : "";
    const words = counts.map(([count, one, more]) => `${count}${plus} ${count === 1 ? one : more}`);
    if (bar.firstElementChild.textContent !== words.join(", ")) {
      bar.firstElementChild.textContent = words.join(", ");
    }
    tellInTitle(`${fresh + active}${plus}`);
    bar.hidden = false;
  }

  /** Return whether a thread is new here, and did not just move up from the next page. */
  function isNews(page, { id }, number) {
    if (shown.has(id)) return false;
    if (!document.querySelector(".pages [rel=next]")) return true;
    const lastActive = Number(page.states[id].split(" ")[1]);
    const isBeforeKnown = page.data.slice(number).some((thread) => shown.has(thread.id));
    return isBeforeKnown || lastActive > Number(news.dataset.now);
  }

  async function look() {
    const twin = new URL(document.querySelector("link[rel=alternate]").href);
    twin.searchParams.set("states", "1");
    const page = await readJson(twin);
    if (!page || document.hidden) return;
    const ids = page.data.map((thread) => thread.id);
    const strange = page.data.filter((thread, number) => isNews(page, thread, number));
    const fresh = strange.filter((thread) => thread.created_at >= Number(news.dataset.now)).length;
    const changed = ids.filter((id) => shown.has(id) && page.states[id] !== shown.get(id)).length;
    const isInPlace = ids.join() === [...shown.keys()].slice(0, ids.length).join();
    const active = strange.length - fresh + changed;
    if (strange.length || (changed && !isInPlace)) {
      tell(fresh, active, strange.length === ids.length && page.has_more);
    } else if (changed || ids.join() !== [...shown.keys()].join()) await show();
  }

  async function show() {
    const answer = await fetch(location.href).catch(() => null);
    if (!answer || isSignedOut(answer) || !answer.ok) return;
    const page = await pageOf(answer);
    const [body, ours] = [page, document].map((each) => each.querySelector("[data-rows]"));
    if (!body || !ours) return location.reload();
    const ticked = boxes().filter((box) => box.checked).map((box) => box.value);
    const focused = document.activeElement.closest("[data-row]")?.dataset.row;
    const focusedName = document.activeElement.name;
    ours.replaceChildren(...document.importNode(body, true).children);
    for (const row of rows()) if (!shown.has(row.dataset.row)) row.classList.add("arrived");
    for (const box of boxes()) box.checked = ticked.includes(box.value);
    document.querySelector(".pages").replaceWith(document.importNode(page.querySelector(".pages"), true));
    news.dataset.now = page.getElementById("news").dataset.now;
    offerCopies(ours);
    showTimes(ours);
    countSelected();
    const row = rows().find((each) => each.dataset.row === focused);
    row?.querySelector(focusedName ? `[name=${focusedName}]` : ".title").focus();
    shown = states();
    bar.hidden = true;
    tellInTitle("");
  }

  // Dates of this time zone, and what is typed but not sent.

  const dates = [...document.querySelectorAll("input[type=date]")];
  const zoneOf = (date) => document.querySelector(`label[for=${date.id}] [data-offset]`);

  /** Return the offset of this zone when a day begins, or when it ends. */
  function offsetOf(date) {
    const midnight = new Date(`${date.value}T00:00`);
    if (date.name === "until") midnight.setDate(midnight.getDate() + 1);
    const minutes = -midnight.getTimezoneOffset();
    const parts = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
    return (minutes < 0 ? "-" : "+") + parts.map((part) => `${part}`.padStart(2, "0")).join(":");
  }

  /** Return whether the date of the address is of another zone, and is not changed. */
  function isOfAnother(date) {
    const isSent = date.value && date.value === date.defaultValue;
    return isSent && (zoneOf(date).dataset.offset || "+00:00") !== offsetOf(date);
  }

  function showZones() {
    for (const date of dates) zoneOf(date).hidden = !isOfAnother(date);
  }

  function startFilters() {
    filters.addEventListener("input", showZones);
    filters.addEventListener("formdata", ({ formData }) => {
      for (const date of dates) {
        const offset = isOfAnother(date) ? zoneOf(date).dataset.offset : date.value && offsetOf(date);
        if (date.value) formData.set(date.name, date.value + offset);
      }
      for (const [name, text] of [...formData]) {
        if (!text.trim() && !name.startsWith("metadata[")) formData.delete(name);
      }
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.(".threads .chip, .threads thead a, .active .chip");
      if (!link) return;
      const typed = new FormData(filters);
      const address = new URL(link.href);
      for (const name of ["q", "pair", "since", "until"]) {
        address.searchParams.delete(name);
        if (typed.has(name)) address.searchParams.set(name, typed.get(name));
      }
      link.href = address;
    });
    showZones();
  }

  if (chosen) startSelection();
  if (filters) startFilters();
  if (!/[?&](after|before)=/.test(location.search)) {
    bar.hidden = true;
    bar.querySelector("button").addEventListener("click", show);
    news.replaceWith(news, bar);
    watch(look);
  }
}
