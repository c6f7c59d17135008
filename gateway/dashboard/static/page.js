// The integrations page: brings cards, dialogs and the REST interface together.

import * as api from "./api.js";
import "./confirm-dialog.js";
import "./connect-dialog.js";
import { describe } from "./forms.js";
import { announce, complain, content } from "./frame.js";
import "./integration-card.js";
import { watch } from "./live.js";
import { page as text } from "./text.js";

const find = (selector) => document.querySelector(selector);
const cards = [...document.querySelectorAll("integration-card")];
const cardOf = (provider) => cards.find((card) => card.provider === provider);

let described = false;

async function load() {
  try {
    const status = await api.status();
    for (const card of cards) card.show(status[card.provider]);
    const connected = cards.filter((card) => status[card.provider].connected).length;
    find("#summary").textContent = text.summary(connected, cards.length);
    content();
    if (!described) offer();
    return true;
  } catch (error) {
    complain(error, refresh);
    // What was true a moment ago stays in sight.
    for (const card of cards) if (card.dataset.state === "loading") card.show({ state: "unknown" });
    return false;
  }
}

async function offer() {
  described = true;
  try {
    for (const card of cards) card.describe((await describe(card.provider)) ?? {});
  } catch {
    // What cannot be asked now is asked again with the next load.
    described = false;
  }
}

async function run(card, action, said) {
  card.occupy(action);
  const answer = await api[action](card.provider).catch((error) => error);
  if (!(answer instanceof Error)) await refresh();
  card.occupy("");
  if (answer instanceof Error) return fail(card, answer);
  const sentence = said(answer)(card.name);
  // What the card does not say by itself.
  const more = [...(answer.warnings ?? []), ...(answer.unreleased ?? [])].filter((told) => !card.textContent.includes(told));
  if (more.length) card.tell(more.join(" "));
  else if (action === "rotate") card.tell(sentence, "info");
  announce(sentence);
}

async function ask(card, options) {
  try {
    find("connect-dialog").open(await describe(card.provider), options);
  } catch (error) {
    fail(card, error);
  }
}

function fail(card, error) {
  if (error.signedOut || !(error instanceof api.Problem)) return complain(error, refresh);
  card.tell(error.message, "bad");
  announce(error.message);
}

const verdict = (good) => (answer) => (answer.connected ? good : text.refused);
const confirm = (action) => (card) => find("confirm-dialog").open(card.provider, action);

const ACTIONS = {
  connect: (card) => ask(card),
  configure: (card) => ask(card, { replaces: true }),
  verify: (card) => run(card, "verify", verdict(text.verified)),
  reconnect: (card) => run(card, "reconnect", verdict(text.reconnected)),
  disconnect: confirm("disconnect"),
  rotate: confirm("rotate"),
};
const DONE = { disconnect: text.disconnected, rotate: text.rotating };

document.addEventListener("integration-action", ({ detail }) => ACTIONS[detail.action](cardOf(detail.provider)));
document.addEventListener("action-confirmed", ({ detail: { provider, action } }) =>
  run(cardOf(provider), action, () => DONE[action]),
);
document.addEventListener("dialog-sending", ({ detail }) => cardOf(detail.provider).configure(detail.sending));
document.addEventListener("integration-connected", async ({ detail }) => {
  if (await refresh()) announce(text.connected(cardOf(detail.provider).name));
});
document.addEventListener("dialog-closed", ({ detail }) => {
  // The button that opened the dialog may be gone: then the focus goes to what took its place.
  if (document.activeElement === document.body) cardOf(detail.provider).focus();
});
find('[data-action="refresh"]').addEventListener("click", async ({ currentTarget }) => {
  currentTarget.dataset.busy = "";
  if (await refresh()) announce(text.refreshed);
  delete currentTarget.dataset.busy;
});

// Another tab of ours changed something: a consent that ended there, a sign-in.
new BroadcastChannel("tenantvault").addEventListener("message", ({ data }) => data !== "signed-out" && refresh());
const refresh = watch(load);
