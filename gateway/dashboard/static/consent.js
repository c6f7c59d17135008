// Where Google sends the browser back to: hands what came in the address to the server, and shows how it ended.

import * as api from "./api.js";
import { element } from "./element.js";
import { icon } from "./icon.js";
import { consent as text, dialog as words, page } from "./text.js";

const given = new URLSearchParams(location.search);
// What came is good for one use. It does not stay in the address bar, nor in the history.
history.replaceState(null, "", location.pathname);

const title = document.querySelector("h1");
const outcome = document.querySelector("#outcome");

function show(heading, kind, mark, ...lines) {
  title.textContent = heading;
  outcome.className = `box ${kind}`;
  outcome.replaceChildren(icon(mark), element("div", {}, ...lines));
  outcome.hidden = !lines.length;
  document.querySelector("#back").hidden = false;
  document.body.dataset.state = kind;
  title.focus();
}

function fail(error) {
  if (!(error instanceof api.Problem)) throw error;
  const signIn = element("a", { href: "/sign-in" }, page.signInAgain);
  show(
    text.failed,
    "bad",
    "alert",
    element("p", {}, error.signedOut ? page.sessionEnded : error.message),
    error.signedOut ? signIn : error.requestId && element("p", { class: "small" }, words.requestId(error.requestId)),
  );
}

function succeed({ email, warnings = [] }) {
  show(text.connected(email), warnings.length ? "warn" : "good", "info", ...warnings.map((warning) => element("p", {}, warning)));
  // Pages of ours that are open elsewhere. They are not this page's opener: that tie ends at Google's page.
  new BroadcastChannel("tenantvault").postMessage("connected");
}

const values = Object.fromEntries(["code", "state", "error"].filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
if (values.state) {
  title.textContent = text.working;
  api.finishConsent(values).then(succeed, fail).catch(reportError);
} else show(text.failed, "bad", "alert", element("p", {}, text.nothing));
