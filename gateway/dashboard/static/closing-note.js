// Says that what it stands in closes by itself, and does so unless somebody makes use of it. Out: the event `time-over`.

import { button, element } from "./element.js";
import { dialog as words } from "./text.js";

const WAIT = 2_000;
const USES = ["pointermove", "pointerdown", "keydown", "focusin", "wheel", "touchmove"];

class ClosingNote extends HTMLElement {
  #timer = 0;
  #host = null;
  #stay = (event) => {
    // A pointer that rests where it was does not move when what is below it changes.
    if (event.type !== "pointermove" || event.movementX || event.movementY) this.#end();
  };

  connectedCallback() {
    const stay = button(words.stay, { class: "tool", "data-action": "stay" });
    stay.addEventListener("click", () => this.#end());
    this.replaceChildren(element("span", {}, words.closing), stay);
    this.#host = this.closest("dialog");
    // After the focus that is moved here.
    this.#timer = setTimeout(() => {
      for (const use of USES) this.#host.addEventListener(use, this.#stay);
      this.#wait();
    });
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    for (const use of USES) this.#host.removeEventListener(use, this.#stay);
  }

  #wait() {
    // Nobody has seen it yet in a tab that is hidden.
    this.#timer = setTimeout(() => (document.hidden ? this.#wait() : this.dispatchEvent(new Event("time-over"))), WAIT);
  }

  #end() {
    if (this.contains(document.activeElement)) this.#host.querySelector('[data-action="done"]').focus();
    this.remove();
  }
}

customElements.define("closing-note", ClosingNote);
