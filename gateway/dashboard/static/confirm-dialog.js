// Asks before what cannot simply be undone, and says what it does. In: `open(provider, action)`. Out: `action-confirmed`.

import { button, element } from "./element.js";
import { confirmations, dialog as words, providers } from "./text.js";

class ConfirmDialog extends HTMLElement {
  #dialog = element("dialog", { class: "narrow", "aria-labelledby": "confirm-title", "aria-describedby": "confirm-what" });

  connectedCallback() {
    this.replaceChildren(this.#dialog);
  }

  /** Ask about `disconnect` or `rotate`. */
  open(provider, action) {
    const { title, lead, yes, points, after } = confirmations[action];
    const { name, ...says } = providers[provider];
    const cancel = button(words.cancel, { "data-action": "cancel", autofocus: true });
    const confirm = button(yes, { class: "button danger", "data-action": `confirm-${action}` });
    cancel.addEventListener("click", () => this.#dialog.close());
    confirm.addEventListener("click", () => {
      this.#dialog.close();
      this.dispatchEvent(new CustomEvent("action-confirmed", { bubbles: true, detail: { provider, action } }));
    });
    this.#dialog.id = `${action}-dialog`;
    this.#dialog.dataset.provider = provider;
    this.#dialog.replaceChildren(
      element("div", { class: "dialog-head" }, element("h2", { id: "confirm-title" }, title(name))),
      element(
        "div",
        { class: "dialog-body" },
        element(
          "div",
          { class: "says", id: "confirm-what" },
          element("p", {}, lead),
          element("ul", {}, ...points(says, name).map((point) => element("li", {}, point))),
          element("p", { class: "quiet" }, after(says, name)),
        ),
        element("div", { class: "dialog-foot" }, cancel, confirm),
      ),
    );
    this.#dialog.showModal();
  }
}

customElements.define("confirm-dialog", ConfirmDialog);
