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

// A page keeps what is typed when the sign-in ends, and sends nothing until the next one.

let signedOut = null; // the line that says so

/** Return whether an answer is one to a person who is signed out; say so until one is not. */
function isSignedOut(answer) {
  const isOut = answer.status === 401 || new URL(answer.url).pathname === "/admin/sign-in";
  if (isOut) tellSignedOut();
  else if (signedOut && answer.ok) goOn().catch(() => {}); // the next answer tries again
  return isOut;
}

function tellSignedOut() {
  if (!signedOut?.isConnected) signedOut = say("You are signed out: sign in in another tab.", true);
}

/** Take the token of the new sign-in: that of the old one is refused. */
async function goOn() {
  const page = await pageOf(await fetch(location.href));
  const fresh = page.querySelector("[name=csrf_token]");
  for (const field of document.querySelectorAll("[name=csrf_token]")) field.value = fresh.value;
  signedOut?.remove();
  signedOut = null;
}

function hold(event) {
  if (!signedOut || event.target.method !== "post") return;
  event.preventDefault();
  event.stopImmediatePropagation();
  tellSignedOut();
}

document.addEventListener("submit", hold, true);
