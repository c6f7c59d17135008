// A code that can be copied. In: the attributes `label` and `value`. The clipboard may be refused: then it is selected.

import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { dialog as words } from "./text.js";

/** Put a text into the clipboard. Says whether that was allowed. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

class CopyCode extends HTMLElement {
  #code = element("code", { tabindex: "-1" });
  #button = button("", { class: "tool", "data-action": "copy" });
  #told = element("span", { class: "unseen", role: "status" });

  connectedCallback() {
    this.#code.textContent = this.getAttribute("value");
    this.#code.dataset.result = this.dataset.result ?? "";
    this.#button.setAttribute("aria-label", words.toolFor(words.copy, this.getAttribute("label")));
    this.#button.replaceChildren(icon("copy"), words.copy);
    this.#button.addEventListener("click", () => this.#copy());
    this.replaceChildren(this.#code, this.#button, this.#told);
  }

  async #copy() {
    const copied = await copyText(this.getAttribute("value"));
    if (!copied) getSelection().selectAllChildren(this.#code);
    this.#button.replaceChildren(icon(copied ? "check" : "copy"), copied ? words.copied : words.selectedShort);
    this.#told.textContent = copied ? words.copied : words.selected;
  }
}

customElements.define("copy-code", CopyCode);
