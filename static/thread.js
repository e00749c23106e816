// Keeps a transcript up to date, copies texts, walks from hit to hit. Without this: links.
"use strict";

{
  const transcript = document.querySelector(".transcript");
  const active = end.dataset.active;
  const query = new URLSearchParams(location.search);
  const NEAR_PIXELS = 160; // so near the end, the page follows what comes

  const messages = () => [...transcript.querySelectorAll("article.message[id]")];

  // Days, in the zone of the browser.

  function showDays() {
    const pattern = transcript.querySelector(".day");
    for (const day of transcript.querySelectorAll(".day")) day.remove();
    let last = "";
    for (const entry of transcript.children) {
      const time = entry.querySelector("time[datetime*=' ']");
      const name = time && asDay.format(momentOf(time));
      if (!name || name === last) continue;
      last = name;
      const day = pattern.cloneNode(true);
      day.firstElementChild.textContent = name;
      entry.before(day);
    }
  }

  // The text of a message.

  async function copyText(button) {
    const answer = await fetch(button.dataset.text);
    const parts = answer.ok ? (await answer.json()).content : [];
    const texts = parts.map((part) => part.text?.value ?? part.refusal).filter((text) => text);
    try {
      await navigator.clipboard.writeText(texts.join("\n\n"));
      say("Copied.");
    } catch {
      say("The browser copies nothing here: open JSON.");
    }
  }

  function offerTexts(root) {
    for (const button of root.querySelectorAll("[data-text]")) {
      button.hidden = false;
      button.addEventListener("click", () => copyText(button));
    }
  }

  function equip(entry) {
    showTimes(entry);
    offerCopies(entry);
    offerTexts(entry);
    return entry;
  }

  // New messages.

  const bar = copyOf("fresh");
  const reveal = bar.firstElementChild;
  reveal.addEventListener("click", async () => {
    const [first] = await append();
    first?.scrollIntoView({ block: "center" });
    first?.focus();
  });

  function addressOf(twin) {
    const last = messages().at(-1)?.id;
    const more = last ? { after: last } : { order: "asc" };
    const kept = Object.fromEntries([...query].filter(([name]) => ["q", "view"].includes(name)));
    return `${here}${twin}?${new URLSearchParams({ ...more, limit: "100", ...(twin ? {} : kept) })}`;
  }

  function count(news) {
    tellInTitle(news);
    reveal.textContent = `${news} new message${news === "1" ? "" : "s"} – show`;
    if (!news) bar.remove();
    else if (!bar.isConnected) transcript.after(bar);
  }

  async function append() {
    const answer = await fetch(addressOf(""));
    if (!answer.ok) return [];
    const page = await pageOf(answer);
    if (active && !page.getElementById("end").dataset.active) {
      location.replace(`${here}/end`); // the run is over: the forms are free
      return [];
    }
    const known = new Set([...transcript.querySelectorAll("[id]")].map((entry) => entry.id));
    const entries = [...page.querySelector(".transcript").children].filter(
      (entry) => entry.matches("article, section, .day") && !known.has(entry.id),
    );
    transcript.querySelector(".nothing")?.remove();
    transcript.append(...entries.map(equip));
    if (transcript.querySelector(".day")) showDays();
    showTotal(page.querySelector("[data-total]")?.textContent);
    count("");
    return entries.filter((entry) => entry.matches("article"));
  }

  function showTotal(total) {
    for (const place of total ? document.querySelectorAll("[data-range]") : []) {
      place.textContent = place.textContent.replace(/\u2013.*/, `\u2013${total}`);
      place.parentElement.querySelector("[data-total]").textContent = total;
    }
  }

  const isAtEnd = () => end.getBoundingClientRect().top < innerHeight + NEAR_PIXELS;

  async function look() {
    // A run that streams here ends with a page of its own.
    if (document.getElementById("live-run")) return;
    const answer = await fetch(addressOf(".json"));
    if (answer.status === 401) return location.reload();
    if (answer.status === 404) {
      say("This thread is deleted.");
      return false;
    }
    if (!answer.ok) return;
    const { data, has_more } = (await answer.json()).messages;
    if (!data.length) return;
    if (!isAtEnd()) return count(`${data.length}${has_more ? "+" : ""}`);
    const follows = end.getBoundingClientRect().bottom < innerHeight + NEAR_PIXELS;
    await append();
    if (follows) scrollTo(0, document.documentElement.scrollHeight);
  }

  // The hits of a search.

  const next = document.getElementById("next-hit");
  let current = -1;

  function walkHits(event) {
    const marks = [...transcript.querySelectorAll("mark")];
    marks[current]?.classList.remove("current");
    if (current < 0) {
      const from = document.querySelector("article:target") ?? transcript;
      current = marks.findIndex((mark) => from.contains(mark)) - 1;
      if (from !== transcript) current += 1; // the first one is in view
    }
    if (!marks[current + 1] && next.dataset.beyond) return (next.href = next.dataset.beyond);
    event.preventDefault();
    current = (current + 1) % marks.length;
    marks[current].classList.add("current");
    marks[current].scrollIntoView({ block: "center" });
  }
  next?.addEventListener("click", walkHits);

  offerTexts(transcript);
  if (transcript.querySelector(".day")) showDays();
  const isFirstLook = performance.getEntriesByType("navigation")[0]?.type === "navigate";
  const isPlain = !location.hash && !["after", "before", "at", "order"].some((name) => query.has(name));
  const isLong = document.querySelector(".where [rel=prev]");
  if (isFirstLook && isPlain && isLong) messages().at(-1).scrollIntoView({ block: "end" });
  if ("live" in transcript.dataset) watch(look);
}
