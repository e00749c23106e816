// Keeps a transcript up to date, copies texts, walks from hit to hit. Without this: links.
"use strict";

{
  const transcript = document.querySelector(".transcript");
  const query = new URLSearchParams(location.search);
  const NEAR_PIXELS = 160; // so near the end, the page follows what comes

  const messages = () => [...transcript.querySelectorAll("article.message[id]:not([data-draft])")];

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
    const answer = await fetch(button.dataset.text).catch(() => null);
    if (answer && isSignedOut(answer)) return;
    if (!answer?.ok) return say("The server gives no text: nothing is copied.");
    const parts = (await answer.json()).content;
    const texts = parts.map((part) => part.text?.value ?? part.refusal).filter((text) => text);
    if (!texts.length) return say("This message has no text.");
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
    const [first] = append(await readNews());
    first?.scrollIntoView({ block: "center" });
    first?.focus();
  });

  /** Return the address of what comes after a message: the last one, or an earlier one (-2). */
  function addressOf(twin, number) {
    const after = messages().at(number)?.id;
    const more = after ? { after } : { order: "asc" };
    const kept = Object.fromEntries([...query].filter(([name]) => ["q", "view"].includes(name)));
    return `${here}${twin}?${new URLSearchParams({ ...more, limit: "100", ...(twin ? {} : kept) })}`;
  }

  function count(news) {
    tellInTitle(news);
    reveal.textContent = `${news} new message${news === "1" ? "" : "s"} – show`;
    if (!news) bar.remove();
    else if (!bar.isConnected) transcript.after(bar);
  }

  /** Return the page of the news. It begins with the last message: runs stand beside that. */
  async function readNews() {
    const answer = await fetch(addressOf("", -2)).catch(() => null);
    if (!answer || isSignedOut(answer) || !answer.ok) return null;
    const page = await pageOf(answer);
    if (!hasOtherForms(page)) return page;
    keepTyped();
    location.replace(end.dataset.end);
    return null;
  }

  const entriesOf = (page) => [...page.querySelector(".transcript").children];

  /** Append what is not here yet. Return the messages among it. */
  function append(page) {
    if (!page) return [];
    const known = new Set([...transcript.querySelectorAll("[id]")].map((entry) => entry.id));
    const kinds = transcript.querySelector(".day") ? "article, section" : "article, section, .day";
    const entries = entriesOf(page).filter((entry) => entry.matches(kinds) && !known.has(entry.id));
    count("");
    if (!entries.length) return [];
    transcript.querySelector(".nothing")?.remove();
    transcript.append(...entries.map(equip));
    if (transcript.querySelector(".day")) showDays();
    showTotal(page.querySelector("[data-total]")?.textContent);
    return entries.filter((entry) => entry.matches("article"));
  }

  function showTotal(total) {
    for (const place of total ? document.querySelectorAll("[data-range]") : []) {
      place.textContent = place.textContent.replace(/\u2013.*/, `\u2013${total}`);
      place.parentElement.querySelector("[data-total]").textContent = total;
    }
  }

  // A run that goes on.

  const GOES_ON = ["queued", "in_progress", "cancelling"];

  /** Return whether the run that is shown has ended or waits, so that the forms are others. */
  function hasOtherForms(page) {
    const [was, is] = [end, page.getElementById("end")].map((each) => each.dataset.active);
    return Boolean(was) && was !== is && !(GOES_ON.includes(was) && GOES_ON.includes(is));
  }

  /** Return what an entry shows, without its times, which grow. */
  function contentOf(entry) {
    return [".state", ".bubble", ".steps"].map((part) => entry.querySelector(part)?.innerHTML).join();
  }

  /** Show an entry as it is now; what a person unfolded stays so. */
  function renew(entry, now) {
    const unfolded = [...entry.querySelectorAll("details")].map((each) => each.open);
    now.querySelectorAll("details").forEach((each, number) => {
      each.open = unfolded[number] ?? each.open;
    });
    if (contentOf(entry) === contentOf(now)) return;
    entry.toggleAttribute("data-draft", "draft" in now.dataset);
    entry.replaceChildren(...equip(now).childNodes);
  }

  /** Show how far the run is, and how much of its message is written. */
  function showRun(page) {
    const known = [...transcript.querySelectorAll(".run, [data-draft]")];
    for (const now of entriesOf(page)) {
      const entry = known.find((each) => each.id === now.id);
      if (entry) renew(entry, now);
    }
    const now = page.getElementById("end");
    end.dataset.active = now.dataset.active;
    end.querySelector(".state").replaceWith(now.querySelector(".state"));
  }

  const isAtEnd = () => end.getBoundingClientRect().top < innerHeight + NEAR_PIXELS;

  async function look() {
    // A run that streams here ends with a page of its own.
    if (document.getElementById("live-run")) return;
    const answer = await fetch(addressOf(".json", -1));
    if (isSignedOut(answer)) return;
    if (answer.status === 404) {
      say("This thread is deleted.");
      return false;
    }
    if (!answer.ok) return;
    const { data, has_more } = (await answer.json()).messages;
    const goesOn = GOES_ON.includes(end.dataset.active);
    if (!data.length && !goesOn) return;
    const isNear = isAtEnd();
    const page = isNear || goesOn ? await readNews() : null;
    const follows = end.getBoundingClientRect().bottom < innerHeight + NEAR_PIXELS;
    const height = document.documentElement.scrollHeight;
    if (page && goesOn) showRun(page);
    if (isNear) append(page);
    else count(data.length ? `${data.length}${has_more ? "+" : ""}` : "");
    const grows = document.documentElement.scrollHeight > height;
    if (follows && grows) scrollTo(0, document.documentElement.scrollHeight);
  }

  // The hits of a search.

  const next = document.getElementById("next-hit");
  let current = -1;

  function walkHits(event) {
    const marks = [...transcript.querySelectorAll("mark")];
    if (!marks.length) return; // the page shows less than the search finds: the link leads
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
