// The sign-in page of the local profile: one button for each demo organisation.

import * as api from "./api.js";

const problem = document.querySelector("#page-problem");
document.querySelector("#sandbox-label").hidden = document.body.dataset.providers !== "sandbox";

for (const button of document.querySelectorAll('[data-action="sign-in"]')) {
  button.addEventListener("click", async () => {
    try {
      await api.signIn(button.dataset.org);
      location.assign("/");
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  });
}
