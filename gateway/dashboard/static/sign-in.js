// The sign-in page of the local profile: one button for each demo organisation.

import * as api from "./api.js";
import { element } from "./element.js";
import { icon } from "./icon.js";
import { page as text } from "./text.js";

const problem = document.querySelector("#page-problem");
const channel = new BroadcastChannel("tenantvault");
let sending = false;

async function signIn({ currentTarget: button }) {
  if (sending) return;
  sending = true;
  const { org } = button.dataset;
  button.textContent = text.signingIn;
  problem.hidden = true;
  try {
    await api.signIn(org);
    // Pages of ours whose session has ended.
    channel.postMessage("signed-in");
    location.assign(document.body.dataset.next);
  } catch (error) {
    problem.replaceChildren(icon("alert"), element("p", {}, error.message));
    problem.hidden = false;
    rest();
  }
}

function rest() {
  sending = false;
  for (const button of buttons) button.textContent = button.dataset.org;
}

const buttons = document.querySelectorAll('[data-action="sign-in"]');
for (const button of buttons) button.addEventListener("click", signIn);
// On the way back the browser may show the page just as it was left.
window.addEventListener("pageshow", ({ persisted }) => persisted && rest());
