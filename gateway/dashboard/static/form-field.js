// One field of a form: label, input, help, and what is wrong with it. It knows how to forget a secret.

import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { dialog as words, fields } from "./text.js";

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

export class FormField {
  constructor(rule, { onchange } = {}) {
    this.rule = rule;
    this.text = fields[rule.name];
    this.problem = element("p", { class: "field-problem", id: `${rule.name}-problem`, "data-field-problem": rule.name });
    this.problem.hidden = true;
    this.input = this.#control();
    this.row = rule.choices ? this.#choices(onchange) : this.#row();
    this.input?.addEventListener("input", () => this.mend(""));
  }

  get value() {
    if (this.rule.choices) return this.row.querySelector(":checked").value;
    return this.input.value.trim();
  }

  /** What is wrong, as far as can be told without the server; empty when nothing is. */
  get slip() {
    if (!this.input || this.row.hidden) return "";
    if (!this.value) return this.rule.required ? this.text.missing : "";
    return !this.rule.pattern || this.rule.pattern.test(this.value) ? "" : this.text.mend;
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
    const { name, options, choices, secret, required, type = "text", inputmode, placeholder } = this.rule;
    if (choices) return null;
    const shared = {
      id: name,
      name,
      "aria-describedby": `${name}-problem ${name}-help`,
      "aria-required": required ? "true" : null,
    };
    if (options) {
      const made = Object.entries(options).map(([value, label]) => element("option", { value }, label));
      return element("select", shared, ...made);
    }
    return element("input", {
      ...shared,
      ...PRIVATE,
      type: secret ? "password" : type,
      autocomplete: secret ? "new-password" : "off",
      inputmode,
      placeholder,
      maxlength: 400,
    });
  }

  #row() {
    const { name, required, secret, options, when } = this.rule;
    const label = element("label", { for: name }, this.text.label);
    if (!required && !options) label.append(" ", element("span", { class: "quiet" }, `(${words.optional})`));
    const control = secret ? element("div", { class: "with-eye" }, this.input, this.#eye()) : this.input;
    const help = element("p", { class: "help", id: `${name}-help` }, this.text.help);
    return element("div", { class: "field", "data-when": when }, label, control, this.problem, help);
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
    this.eye.setAttribute("aria-label", words.conceal(this.text.label));
  }

  #conceal() {
    this.input.type = "password";
    this.eye.replaceChildren(icon("eye"));
    this.eye.setAttribute("aria-label", words.reveal(this.text.label));
  }

  #choices(onchange) {
    const made = this.rule.choices.map((choice, index) => {
      const input = element("input", { type: "radio", name: this.rule.name, value: choice, checked: index === 0 });
      input.addEventListener("change", () => onchange(choice));
      return element("label", { class: "segment" }, input, element("span", {}, this.text[choice]));
    });
    return element(
      "fieldset",
      { class: "field" },
      element("legend", {}, this.text.label),
      element("div", { class: "segments" }, ...made),
    );
  }
}
