// What every page of the dashboard shares: sign-out, what is announced, and a server that cannot be reached.

import * as api from "./api.js";
import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { clock } from "./moment.js";
import { page as text } from "./text.js";

// Milliseconds between two tries to reach the server: twice as long each time.
const FIRST_PAUSE = 2_000;
const LONGEST_PAUSE = 30_000;

const find = (selector) => document.querySelector(selector);
const box = find("#page-problem");
// Our other tabs.
const channel = new BroadcastChannel("tenantvault");

let again = async () => true;
let said = "";
let upToDate = null;
let pause = FIRST_PAUSE;
let timer = 0;
// Whether somebody signed out while the server could not be reached.
let leaving = false;

/** Have a sentence read out. Made anew each time, so that the same one is heard twice. */
export function announce(sentence) {
  find("#announcer").replaceChildren(element("p", {}, sentence));
}

/**
 * Show what stopped the page from being loaded. `retry` loads it again; it comes back here or to `content()`, and is
 * called until the server can be reached. An error that is no Problem is thrown on.
 */
export function complain(error, retry) {
  if (!(error instanceof api.Problem)) throw error;
  if (leaving && error.signedOut) return left();
  again = leaving ? signOut : retry;
  clearTimeout(timer);
  if (passes(error)) {
    timer = setTimeout(tryAgain, pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
  const sentence = error.signedOut ? text.sessionEnded : error.message;
  // What is said already is neither said again nor taken from under the finger.
  if (!box.hidden && said === sentence) return;
  said = sentence;
  const stale = upToDate && passes(error) && element("p", { class: "next", "data-stale": "" }, text.stale(clock(upToDate)));
  box.replaceChildren(icon("alert"), element("div", {}, element("p", {}, sentence), stale), way(error));
  box.hidden = false;
}

/** Say that the page shows what is true now: what was complained of is over. */
export function content() {
  if (leaving) return signOut();
  clearTimeout(timer);
  pause = FIRST_PAUSE;
  upToDate = new Date();
  if (box.hidden) return;
  if (box.contains(document.activeElement)) find("main").focus();
  box.hidden = true;
  announce(text.healed);
}

/** Whether a problem is likely to pass by itself. */
function passes({ status }) {
  return status === 0 || status === 429 || status >= 500;
}

function way(error) {
  // This page itself: the server leads to the sign-in page, and that one back.
  if (error.signedOut) return element("a", { href: "", class: "button first", "data-action": "sign-in-again" }, text.signInAgain);
  if (error.code === "OTHER_ORG") return acting(text.reload, "reload", () => location.reload());
  return acting(text.retry, "retry", async () => (await again()) || announce(said));
}

function acting(words, action, act) {
  const made = button(words, { "data-action": action });
  made.addEventListener("click", act);
  return made;
}

function tryAgain() {
  // A page that nobody sees asks when it is seen again.
  if (!box.hidden && document.visibilityState === "visible") again();
}

async function signOut() {
  try {
    await api.signOut();
  } catch (error) {
    leaving = passes(error);
    if (!error.signedOut) return complain(error, signOut);
  }
  left();
}

function left() {
  channel.postMessage("signed-out");
  location.assign("/sign-in");
}

document.addEventListener("visibilitychange", tryAgain);
window.addEventListener("online", tryAgain);
channel.addEventListener("message", ({ data }) => {
  if (data === "signed-out") location.replace("/sign-in");
  if (data === "signed-in") tryAgain();
});
find('[data-action="sign-out"]').addEventListener("click", signOut);
find(".skip").addEventListener("click", (event) => {
  // With an address of its own, closing a dialog by going back would move the focus there again.
  event.preventDefault();
  find(event.currentTarget.hash).focus();
});
