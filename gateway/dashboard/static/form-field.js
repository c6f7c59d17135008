// One field of a form: label, input, help, and what is wrong with it. It knows how to forget a secret.

import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { dialog as words } from "./text.js";

// Password managers must neither offer to keep a provider's secret nor fill in one of their own.
const PRIVATE = {
  autocapitalize: "off",
  autocorrect: "off",
  spellcheck: "false",
  "data-1p-ignore": "",
  "data-bwignore": "",
  "data-lpignore": "true",
  "data-form-type": "other",
};

// What the server mends by itself is no slip: quotes and white space around a value, `Bearer `, marks in a number.
const AROUND = /^(?:bearer\s|[\s"'`“”‘’])+|[\s"'`“”‘’]+$/gi;
const WITHIN = /^whatsapp:|[\s().\/-]/gi;

export class FormField {
  /** `rule` is a field as the server describes it. */
  constructor(rule) {
    this.rule = rule;
    this.problem = element("p", { class: "field-problem", id: `${rule.name}-problem`, "data-field-problem": rule.name });
    this.problem.hidden = true;
    this.input = this.#control();
    this.row = this.#row();
    this.input.addEventListener("input", () => this.mend(""));
  }

  get value() {
    return this.input.value.trim();
  }

  /** What is wrong, as far as can be told without the server; empty when nothing is. */
  get slip() {
    const { required, pattern, label, hint } = this.rule;
    if (!this.value) return required ? words.missing(label) : "";
    const whole = pattern && new RegExp(`^(?:${pattern})$`, "u");
    const value = this.value.replace(AROUND, "");
    return !whole || whole.test(value) || whole.test(value.replace(WITHIN, "")) ? "" : words.mend(hint);
  }

  /** Show what is wrong; the empty string shows that nothing is. */
  mend(sentence) {
    this.problem.textContent = sentence;
    this.problem.hidden = !sentence;
    if (sentence) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  /** Take a secret out of the page. Says whether there was one. */
  forget() {
    if (!this.rule.secret) return false;
    const had = Boolean(this.input.value);
    this.input.value = "";
    this.#conceal();
    return had;
  }

  #control() {
    const { name, choices, secret, required, placeholder } = this.rule;
    const shared = {
      id: name,
      name,
      "aria-describedby": `${name}-problem ${name}-help`,
      "aria-required": required ? "true" : null,
    };
    if (choices.length) {
      const made = choices.map((value) => element("option", { value }, value));
      return element("select", shared, ...made);
    }
    return element("input", {
      ...shared,
      ...PRIVATE,
      type: secret ? "password" : "text",
      autocomplete: secret ? "new-password" : "off",
      placeholder: placeholder || null,
      maxlength: 400,
    });
  }

  #row() {
    const { name, required, secret, choices } = this.rule;
    const label = element("label", { for: name }, this.rule.label);
    if (!required && !choices.length) label.append(" ", element("span", { class: "quiet" }, `(${words.optional})`));
    const control = secret ? element("div", { class: "with-eye" }, this.input, this.#eye()) : this.input;
    const help = element("p", { class: "help", id: `${name}-help` }, this.rule.hint);
    return element("div", { class: "field" }, label, control, this.problem, help);
  }

  #eye() {
    this.eye = button("", { class: "eye", "data-action": "reveal", "aria-controls": this.rule.name });
    this.eye.addEventListener("click", () => (this.input.type === "password" ? this.#reveal() : this.#conceal()));
    this.#conceal();
    return this.eye;
  }

  #reveal() {
    this.input.type = "text";
    this.eye.replaceChildren(icon("eyeOff"));
    this.eye.setAttribute("aria-label", words.conceal(this.rule.label));
  }

  #conceal() {
    this.input.type = "password";
    this.eye.replaceChildren(icon("eye"));
    this.eye.setAttribute("aria-label", words.reveal(this.rule.label));
  }
}
