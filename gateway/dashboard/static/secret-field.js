// A field for a secret: typed unseen unless the eye is open, made up if wanted, and forgotten.

import { copyText } from "./copy-code.js";
import { button, element } from "./element.js";
import { FormField } from "./form-field.js";
import { icon } from "./icon.js";
import { dialog as words } from "./text.js";

const BYTES = 32;

export class SecretField extends FormField {
  #eye = button("", { class: "eye", "data-action": "reveal", "aria-controls": this.rule.name });
  #told = element("span", { role: "status" });
  #copy = null;

  constructor(rule) {
    super(rule);
    // No password manager keeps a one-time code, nor makes up a password in its place.
    this.input.setAttribute("autocomplete", "one-time-code");
    this.#eye.addEventListener("click", () => this.#show(this.input.type === "password"));
    this.#show(false);
    const frame = element("div", { class: "with-eye" });
    this.input.replaceWith(frame);
    frame.append(this.input, this.#eye);
    if (rule.madeUp) this.#offer();
  }

  forget() {
    const had = this.touched;
    this.input.value = "";
    this.#show(false);
    this.#tell("", false);
    return had;
  }

  #show(shown) {
    this.input.type = shown ? "text" : "password";
    this.#eye.replaceChildren(icon(shown ? "eyeOff" : "eye"));
    this.#eye.setAttribute("aria-label", (shown ? words.conceal : words.reveal)(this.rule.label));
  }

  #offer() {
    this.#copy = tool(words.copy, "copy", this.rule.label, async () => {
      const copied = await copyText(this.input.value);
      if (!copied) this.input.select();
      this.#tell(copied ? words.copied : words.selected, true);
    });
    const make = tool(words.makeUp, "generate", this.rule.label, () => {
      this.input.value = madeUp();
      this.input.dispatchEvent(new Event("input", { bubbles: true }));
      this.#show(true);
      this.#tell(words.madeUp, true);
    });
    // What somebody types is theirs already.
    this.input.addEventListener("input", () => this.#tell("", false));
    this.#tell("", false);
    this.head.append(make);
    this.row.append(element("div", { class: "help told-here" }, this.#told, this.#copy));
  }

  #tell(sentence, ours) {
    this.#told.textContent = sentence;
    if (this.#copy) this.#copy.hidden = !ours;
  }
}

function tool(text, action, label, act) {
  const made = button(text, { class: "tool", "data-action": action, "aria-label": words.toolFor(text, label) });
  made.addEventListener("click", act);
  return made;
}

/** 32 bytes by chance, in base64url (RFC 4648). */
function madeUp() {
  const bytes = crypto.getRandomValues(new Uint8Array(BYTES));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
