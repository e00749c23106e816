// Shows times in the zone of the browser, and lets ages grow.
"use strict";

const asDay = new Intl.DateTimeFormat("en-GB", { dateStyle: "full" });
const asClock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const asExactClock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
});
const asWhole = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const MINUTE = 60, HOUR = 3600, DAY = 86400;

function momentOf(time) {
  return new Date(time.getAttribute("datetime").replace(" ", "T"));
}

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime*=':']")) {
    const moment = momentOf(time);
    const format = time.dateTime.includes(".") ? asExactClock : asClock;
    if (time.title) time.title = asWhole.format(moment);
    if (time.className === "clock") time.textContent = format.format(moment);
    if (time.dataset.age) time.begun = Date.now() / 1000 - Number(time.dataset.age);
  }
}

function inWords(age) {
  if (age < MINUTE) return "just now";
  for (const [size, unit] of [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"]]) {
    if (age >= size) return `${Math.floor(age / size)} ${unit} ago`;
  }
}

// `performance.now` stands still while a machine sleeps. A clock that is wrong does not matter: only
// differences count.
function age() {
  const now = Date.now() / 1000;
  for (const time of document.querySelectorAll("time[data-age]")) {
    const words = inWords(now - time.begun);
    if (time.textContent !== words) time.textContent = words;
  }
}

showTimes(document);
setInterval(age, 5000);
document.getElementById("zone").textContent =
  `times are in your zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
