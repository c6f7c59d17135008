// The integrations page: brings cards, dialogs and the REST interface together.

import * as api from "./api.js";
import "./connect-dialog.js";
import "./disconnect-dialog.js";
import { button, element } from "./element.js";
import { describe } from "./forms.js";
import { icon } from "./icon.js";
import "./integration-card.js";
import { page as text } from "./text.js";

const find = (selector) => document.querySelector(selector);
const cards = [...document.querySelectorAll("integration-card")];
const cardOf = (provider) => cards.find((card) => card.provider === provider);
const announce = (sentence) => (find("#announcer").textContent = sentence);

let newest = 0;

async function load() {
  const mine = ++newest;
  try {
    const status = await api.status();
    // An answer that was overtaken by a later question is old.
    if (mine !== newest) return true;
    for (const card of cards) card.show(status[card.provider]);
    const connected = cards.filter((card) => status[card.provider].connected).length;
    find("#summary").textContent = text.summary(connected, cards.length);
    find("#page-problem").hidden = true;
    return true;
  } catch (error) {
    complain(error);
    for (const card of cards) if (card.dataset.state === "loading") card.show({ state: "unknown" });
    return false;
  }
}

function complain(error) {
  if (!(error instanceof api.Problem)) throw error;
  const box = find("#page-problem");
  const retry = button(text.retry, { "data-action": "retry" });
  retry.addEventListener("click", load);
  const way = error.signedOut ? element("a", { href: "/sign-in", class: "button first", "data-action": "sign-in-again" }, text.signInAgain) : retry;
  box.replaceChildren(icon("alert"), element("p", {}, error.signedOut ? text.sessionEnded : error.message), way);
  box.hidden = false;
}

async function run(card, action, said) {
  card.occupy(action);
  try {
    const answer = await api[action](card.provider);
    await load();
    const told = answer.warnings ?? answer.unreleased;
    if (told) card.complain(told.join(" "));
    announce(said(answer)(card.name));
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    if (error.signedOut) complain(error);
    else card.complain(error.message);
    announce(error.signedOut ? text.sessionEnded : error.message);
  } finally {
    card.occupy("");
  }
}

async function ask(card, options) {
  try {
    find("connect-dialog").open(await describe(card.provider), options);
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    if (error.signedOut) complain(error);
    else card.complain(error.message);
  }
}

async function offer() {
  for (const card of cards) {
    // What cannot be asked now is asked again when somebody wants to connect.
    const description = await describe(card.provider).catch(() => null);
    if (description) card.describe(description);
  }
}

const ACTIONS = {
  connect: (card) => ask(card),
  configure: (card) => ask(card, { replaces: true }),
  verify: (card) => run(card, "verify", ({ connected }) => (connected ? text.verified : text.refused)),
  reconnect: (card) => run(card, "reconnect", ({ connected }) => (connected ? text.reconnected : text.refused)),
  disconnect: (card) => find("disconnect-dialog").open(card.provider),
};

document.addEventListener("integration-action", ({ detail }) => ACTIONS[detail.action](cardOf(detail.provider)));
document.addEventListener("disconnect-confirmed", ({ detail }) =>
  run(cardOf(detail.provider), "disconnect", () => text.disconnected),
);
document.addEventListener("integration-connected", async ({ detail }) => {
  if (await load()) announce(text.connected(cardOf(detail.provider).name));
});
document.addEventListener("dialog-closed", ({ detail }) => {
  // The button that opened the dialog may be gone: then the focus goes to what took its place.
  if (document.activeElement === document.body) cardOf(detail.provider).focus();
});
find('[data-action="refresh"]').addEventListener("click", async () => {
  if (await load()) announce(text.refreshed);
});
find('[data-action="sign-out"]').addEventListener("click", async () => {
  try {
    await api.signOut();
  } catch (error) {
    if (!error.signedOut) return complain(error);
  }
  location.assign("/sign-in");
});

const { providers, mayChange } = document.body.dataset;
find("#sandbox-label").hidden = find("#sandbox-note").hidden = providers !== "sandbox";
find("#read-only-note").hidden = mayChange === "true";
// A consent that ended in another tab.
new BroadcastChannel("tenantvault").addEventListener("message", load);
load();
offer();
