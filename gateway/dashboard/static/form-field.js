// One field of a form: label, input, help, and what is wrong with it.

import { element } from "./element.js";
import { choices as choiceWords, dialog as words } from "./text.js";

// Password managers must neither keep what is a provider's nor fill in what is theirs. There is no `name`: should the
// browser send the form by itself, nothing is in it.
const PRIVATE = {
  autocomplete: "off",
  autocapitalize: "off",
  autocorrect: "off",
  spellcheck: "false",
  "data-1p-ignore": "",
  "data-bwignore": "",
  "data-lpignore": "true",
  "data-form-type": "other",
};

// What the server mends by itself is no slip: quotes and white space around a value, `Bearer `.
const AROUND = /^(?:bearer\s|[\s"'`“”‘’])+|[\s"'`“”‘’]+$/gi;

export class FormField {
  /** `rule` is a field as the server describes it. */
  constructor(rule) {
    const { name, label, hint, helpUrl } = rule;
    this.rule = rule;
    this.input = this.#control();
    this.said = element("p", { class: "field-problem", id: `${name}-problem`, "data-field-problem": name, hidden: true });
    this.help = element("p", { class: "help", id: `${name}-help` }, hint);
    if (helpUrl) {
      const more = { href: helpUrl, target: "_blank", rel: "noopener noreferrer", "aria-label": words.moreAbout(label) };
      this.help.append(" ", element("a", more, words.more));
    }
    const title = element("label", { for: name }, label);
    if (!this.needed && !rule.choices.length) title.append(" ", element("span", { class: "quiet" }, `(${words.optional})`));
    this.head = element("div", { class: "field-head" }, title);
    this.row = element("div", { class: "field" }, this.head, this.input, this.said, this.help);
    this.input.addEventListener("input", () => this.mend(""));
  }

  get needed() {
    return this.rule.required || Boolean(this.rule.way);
  }

  get value() {
    return this.input.value.trim();
  }

  /** Whether something was typed that would be lost. */
  get touched() {
    return this.input.tagName === "INPUT" && this.input.value !== "";
  }

  /** What is wrong, as far as can be told without the server; empty when nothing is. */
  get slip() {
    const { pattern, label } = this.rule;
    if (!this.value) return this.needed ? words.missing(label) : "";
    const whole = new RegExp(`^(?:${pattern || ".*"})$`, "u");
    return whole.test(this.value.replace(AROUND, "")) ? "" : words.mend;
  }

  /** Show what is wrong; the empty string shows that nothing is. */
  mend(sentence) {
    this.#say(sentence, "field-problem");
    if (sentence) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  /** Show what is good to know here, until something is typed. */
  note(sentence) {
    this.mend("");
    this.#say(sentence, "help");
  }

  /** Take a secret out of the page. Says whether there was one. */
  forget() {
    return false;
  }

  #say(sentence, kind) {
    this.said.className = kind;
    this.said.textContent = sentence;
    this.said.hidden = !sentence;
  }

  #control() {
    const { name, choices, placeholder } = this.rule;
    const shared = { id: name, "aria-describedby": `${name}-problem ${name}-help`, "aria-required": this.needed ? "true" : null };
    if (!choices.length) return element("input", { ...shared, ...PRIVATE, type: "text", placeholder: placeholder || null, maxlength: 400 });
    return element("select", shared, ...choices.map((value) => element("option", { value }, choiceWords[value] ?? value)));
  }
}
