// Where Google sends the browser back to: hands what came in the address to the server, and shows how it ended.

import * as api from "./api.js";
import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { consent as text, dialog as words, page } from "./text.js";

const given = new URLSearchParams(location.search);
// What came is good for one use. It does not stay in the address bar, nor in the history.
history.replaceState(null, "", location.pathname);

const find = (selector) => document.querySelector(selector);
const TITLES = { INSUFFICIENT_SCOPE: text.missing, CONSENT_DENIED: text.denied };

function show(heading, kind, mark, lines, way) {
  find("h1").textContent = heading;
  find("#outcome").className = `box ${kind}`;
  find("#outcome").replaceChildren(icon(mark), element("div", {}, ...lines));
  find("#outcome").hidden = !lines.length;
  find("#again").replaceChildren(...(way ? [way] : []));
  find("#back").hidden = false;
  document.body.dataset.state = kind;
  find("h1").focus();
}

function fail(error) {
  if (!(error instanceof api.Problem)) throw error;
  if (error.signedOut) {
    const way = element("a", { href: "/sign-in", class: "button first" }, page.signInAgain);
    return show(text.failed, "bad", "alert", [element("p", {}, page.sessionEnded)], way);
  }
  const lines = [element("p", {}, error.message)];
  if (error.code in TITLES) lines.push(element("p", { class: "next" }, text.again));
  else if (error.requestId) lines.push(element("p", { class: "small" }, words.requestId(error.requestId)));
  show(TITLES[error.code] ?? text.failed, "bad", "alert", lines, again());
}

/** What begins the consent anew: what came back before is used up. */
function again() {
  const made = button(text.retry, { class: "button first", "data-action": "try-again" });
  const occupy = (busy) => {
    made.textContent = busy ? text.leaving : text.retry;
    made.setAttribute("aria-disabled", String(busy));
  };
  made.addEventListener("click", () => {
    if (made.getAttribute("aria-disabled") === "true") return;
    occupy(true);
    api.startConsent().then(({ authorizationUrl }) => location.assign(authorizationUrl), fail);
  });
  // On the way back from Google the browser may show the page just as it was left.
  window.addEventListener("pageshow", ({ persisted }) => persisted && occupy(false));
  return made;
}

function succeed({ email, warnings = [] }) {
  const lines = warnings.map((warning) => element("p", {}, warning));
  if (lines.length) lines.unshift(element("p", {}, element("strong", {}, words.warnings)));
  show(text.connected(email), lines.length ? "warn" : "good", "info", lines);
  // Pages of ours that are open elsewhere. They are not this page's opener: that tie ends at Google's page.
  new BroadcastChannel("tenantvault").postMessage("connected");
}

const values = Object.fromEntries(["code", "state", "error"].filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
if (values.state) {
  find("h1").textContent = text.working;
  api.finishConsent(values).then(succeed, fail);
} else show(text.failed, "bad", "alert", [element("p", {}, text.nothing)]);
