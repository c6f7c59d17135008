// Asks whether to disconnect, and says what stops working. In: `open(provider)`. Out: the event `disconnect-confirmed`.

import { button, element } from "./element.js";
import { dialog as words, providers } from "./text.js";

class DisconnectDialog extends HTMLElement {
  #dialog = element("dialog", { id: "disconnect-dialog", class: "narrow", "aria-labelledby": "disconnect-title" });

  connectedCallback() {
    this.replaceChildren(this.#dialog);
  }

  /** Ask about a provider. */
  open(provider) {
    const { name, stops, stays, later = words.disconnectLater } = providers[provider];
    const cancel = button(words.cancel, { "data-action": "cancel", autofocus: true });
    const confirm = button(words.confirm, { class: "button danger", "data-action": "confirm-disconnect" });
    cancel.addEventListener("click", () => this.#dialog.close());
    confirm.addEventListener("click", () => {
      this.#dialog.close();
      this.dispatchEvent(new CustomEvent("disconnect-confirmed", { bubbles: true, detail: { provider } }));
    });
    this.#dialog.dataset.provider = provider;
    this.#dialog.replaceChildren(
      element("div", { class: "dialog-head" }, element("h2", { id: "disconnect-title" }, words.disconnectTitle(name))),
      element(
        "div",
        { class: "dialog-body" },
        element("p", {}, words.disconnectLead),
        element("ul", {}, ...stops.map((stop) => element("li", {}, stop))),
        element("p", { class: "quiet" }, `${stays} ${later}`),
        element("div", { class: "dialog-foot" }, cancel, confirm),
      ),
    );
    this.#dialog.showModal();
  }
}

customElements.define("disconnect-dialog", DisconnectDialog);
