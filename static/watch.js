// Looks for news while the page is in view. Without this a page stays as it was loaded.
"use strict";

const LOOK_MILLISECONDS = 2000;
const SHARE_OF_TIME = 10; // a look that takes long comes less often

/** Look now and then, and when the page comes into view, until a look returns false. */
function watch(look) {
  let goesOn = true;
  let timer = setTimeout(turn, LOOK_MILLISECONDS);

  async function turn() {
    const start = performance.now();
    if (!document.hidden) goesOn = (await look().catch(() => true)) !== false && goesOn;
    clearTimeout(timer);
    const spent = performance.now() - start;
    if (goesOn) timer = setTimeout(turn, Math.max(LOOK_MILLISECONDS, SHARE_OF_TIME * spent));
  }

  document.addEventListener("visibilitychange", () => document.hidden || !goesOn || turn());
}

const title = document.title;

/** Put how much is new into the title, or take it out. */
function tellInTitle(news) {
  document.title = news ? `(${news}) ${title}` : title;
}

/** Return the page in an answer. */
async function pageOf(answer) {
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}
