// What is typed in to connect a provider, or what a consent asks for, and what came of it.

import { button, element } from "./element.js";
import { fieldFor } from "./forms.js";
import { icon } from "./icon.js";
import { dialog as words } from "./text.js";

export class ConnectForm {
  #fields;
  #way = "";
  #told = element("div", { class: "told", role: "status" });
  #problem = element("div", { class: "told", role: "alert" });

  /** A form as the server describes it. `replaces` says that there is a credential already. */
  constructor(description, replaces) {
    const { fields, byConsent } = description;
    this.#fields = fields.map(fieldFor);
    this.submit = element("button", { class: "button first", type: "submit", "data-action": "submit" }, byConsent ? words.consent : words.submit);
    this.test = byConsent ? null : button(words.test, { "data-action": "test", "aria-label": words.testOnly });
    this.cancel = button(words.cancel, { class: "button plain", "data-action": "cancel" });
    const foot = element("div", { class: "dialog-foot" }, this.cancel, this.test, this.submit);
    this.element = element(
      "form",
      { method: "post", novalidate: true, autocomplete: "off" },
      ...(byConsent ? asks(description) : this.#rows(description)),
      next(description, replaces),
      element("div", { class: "dialog-end" }, this.#told, this.#problem, foot),
    );
    // What was said of other values holds no longer.
    this.element.addEventListener("input", () => this.say());
  }

  /** Whether something was typed that would be lost. */
  get touched() {
    return this.#fields.some((field) => field.touched);
  }

  get values() {
    return Object.fromEntries(this.#used.map(({ rule, value }) => [rule.name, value]).filter(([, value]) => value));
  }

  has(name) {
    return this.#fields.some(({ rule }) => rule.name === name);
  }

  /** Put the focus where there is something to type. */
  focus() {
    const empty = this.#used.find(({ needed, value }) => needed && !value);
    (empty?.input ?? this.submit).focus({ preventScroll: !empty });
  }

  /** Whether it can be sent; else says what is missing. */
  check() {
    this.say();
    return !this.mark(Object.fromEntries(this.#used.map((field) => [field.rule.name, field.slip])));
  }

  /** Put each sentence beside its field, and the focus on the first. Says whether there was any. */
  mark(sentences) {
    for (const field of this.#fields) field.mend(sentences[field.rule.name] ?? "");
    const first = this.#fields.find(({ rule }) => sentences[rule.name]);
    if (!first) return false;
    if (!this.#used.includes(first)) this.#choose(first.rule.way);
    first.row.closest("details")?.setAttribute("open", "");
    // Where the focus is already, it reads nothing out.
    if (first.input === document.activeElement) this.#problem.append(element("p", { class: "unseen" }, first.said.textContent));
    first.input.focus();
    return true;
  }

  /** Empty the secrets, or the one of this name, and say so beside each that has no other sentence. */
  forget({ only = "", except = {} } = {}) {
    for (const field of this.#fields) {
      const { name } = field.rule;
      if ((!only || name === only) && field.forget() && !except[name]) field.note(words.emptied);
    }
  }

  /** Say something above the buttons, in the place of what stood there. */
  say(kind = "", mark = "", ...content) {
    const said = kind ? [element("div", { class: `box ${kind}`, "data-said": kind, tabindex: "-1" }, icon(mark), element("div", {}, ...content))] : [];
    const bad = kind === "bad";
    this.#told.replaceChildren(...(bad ? [] : said));
    this.#problem.replaceChildren(...(bad ? said : []));
    return said[0];
  }

  /** Show whether anything can be clicked now. */
  occupy(busy) {
    for (const made of [this.submit, this.test]) made?.setAttribute("aria-disabled", String(busy));
  }

  get #used() {
    return this.#fields.filter(({ rule }) => !rule.way || rule.way === this.#way);
  }

  #rows({ title, consoleUrl }) {
    const rows = (advanced) => this.#fields.filter(({ rule }) => rule.advanced === advanced).map(({ row }) => row);
    const [plain, rare] = [rows(false), rows(true)];
    const ways = this.#fields.filter(({ rule }) => rule.way);
    if (ways.length) plain.splice(plain.indexOf(ways[0].row), 0, this.#switch([...new Set(ways.map(({ rule }) => rule.way))]));
    if (rare.length) plain.push(element("details", {}, element("summary", {}, words.advanced), ...rare));
    return [outward(consoleUrl, words.console(title)), ...plain];
  }

  #switch(ways) {
    this.radios = ways.map((value) => element("input", { type: "radio", name: "way", value }));
    const segments = this.radios.map((radio) => element("label", { class: "segment" }, radio, element("span", {}, radio.value)));
    const made = element("fieldset", { class: "field" }, element("legend", {}, words.ways), element("div", { class: "segments" }, ...segments));
    made.addEventListener("change", ({ target }) => this.#choose(target.value));
    this.#choose(ways[0]);
    return made;
  }

  #choose(way) {
    this.#way = way;
    for (const radio of this.radios) radio.checked = radio.value === way;
    for (const field of this.#fields) field.row.hidden = !this.#used.includes(field);
  }
}

function outward(href, text) {
  const unseen = element("span", { class: "unseen" }, ` ${words.newTab}`);
  return href && element("a", { class: "outward", href, target: "_blank", rel: "noopener noreferrer" }, text, unseen, icon("out"));
}

function asks({ asksFor, neverAsksFor }) {
  const list = (mark, title, sentences) => {
    const items = sentences.map((sentence) => element("li", {}, icon(mark), element("span", {}, sentence)));
    return element("section", { class: `asks ${mark}` }, element("h3", {}, title), element("ul", {}, ...items));
  };
  return [list("check", words.asksFor, asksFor), list("close", words.neverAsksFor, neverAsksFor)];
}

function next({ next, byConsent, consoleUrl }, replaces) {
  const told = element("p", {}, element("strong", {}, words.next), ` ${next}${replaces ? ` ${words.replaces}` : ""}`);
  return element("div", { class: "box info" }, icon("info"), element("div", {}, told, byConsent && outward(consoleUrl, words.consentConsole)));
}
