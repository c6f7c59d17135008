// The dialog that connects a provider. In: `open(provider, {replaces})`. Out: the event `integration-connected`.

import * as api from "./api.js";
import { button, element } from "./element.js";
import { FormField } from "./form-field.js";
import { forms } from "./forms.js";
import { icon } from "./icon.js";
import { dialog as words, fields as labels, page, providers } from "./text.js";

const RESULTS = ["inboundAssistantId", "outboundAssistantId", "phoneNumber"];

class ConnectDialog extends HTMLElement {
  #dialog = element("dialog", { id: "connect-dialog", "aria-labelledby": "connect-title" });
  #provider = "";
  #fields = [];
  #problem = null;
  #submit = null;
  #sending = false;

  connectedCallback() {
    this.replaceChildren(this.#dialog);
    this.#dialog.addEventListener("cancel", (event) => this.#sending && event.preventDefault());
    // A second Escape would close it all the same.
    this.#dialog.addEventListener("keydown", (event) => {
      if (this.#sending && event.key === "Escape") event.preventDefault();
    });
    // Whatever way it was closed, nothing that was typed stays in the page.
    this.#dialog.addEventListener("close", () => this.#empty());
  }

  /** Ask for a provider's credential. `replaces` says that there is one already. */
  open(provider, { replaces = false } = {}) {
    this.#provider = provider;
    this.#dialog.dataset.provider = provider;
    this.#state = "form";
    this.#dialog.replaceChildren(this.#head(replaces), this.#form(replaces));
    this.#method("token");
    this.#dialog.showModal();
    this.#fields[0].input.focus();
  }

  set #state(state) {
    this.#dialog.dataset.state = state;
  }

  get #name() {
    return providers[this.#provider].name;
  }

  #empty() {
    for (const field of this.#fields) field.forget();
    this.#fields = [];
    this.#dialog.replaceChildren();
    this.dispatchEvent(new CustomEvent("dialog-closed", { bubbles: true, detail: { provider: this.#provider } }));
  }

  #head(replaces) {
    const title = replaces ? words.configureTitle(this.#name) : words.connectTitle(this.#name);
    const close = button(icon("close"), { class: "button plain round", "data-action": "close", "aria-label": words.close });
    close.addEventListener("click", () => this.#close());
    return element(
      "div",
      { class: "dialog-head" },
      element("img", { src: `/static/marks/${this.#provider}.svg`, alt: "", width: 32, height: 32 }),
      element("h2", { id: "connect-title" }, title),
      close,
    );
  }

  #form(replaces) {
    this.#fields = forms[this.#provider].map((rule) => new FormField(rule, { onchange: (way) => this.#method(way) }));
    this.#problem = element("div", { class: "box bad", role: "alert", tabindex: "-1", "data-problem": "" });
    this.#problem.hidden = true;
    this.#submit = element("button", { class: "button first", type: "submit", "data-action": "submit" }, words.submit);
    const cancel = button(words.cancel, { "data-action": "cancel" });
    cancel.addEventListener("click", () => this.#close());
    const explains = element("p", {}, words.whatHappens[this.#provider], replaces ? ` ${words.replaces}` : "");
    const form = element(
      "form",
      { method: "post", novalidate: true, autocomplete: "off" },
      this.#problem,
      ...this.#fields.map((field) => field.row),
      element("div", { class: "box info" }, icon("info"), explains),
      element("div", { class: "dialog-foot" }, cancel, this.#submit),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    return form;
  }

  #method(way) {
    for (const field of this.#fields.filter(({ rule }) => rule.when)) {
      field.row.hidden = field.rule.when !== way;
      if (!field.row.hidden) continue;
      field.input.value = "";
      field.mend("");
    }
  }

  async #send() {
    if (this.#sending) return;
    const asked = this.#fields.filter((field) => field.input && !field.row.hidden);
    const slips = Object.fromEntries(asked.map((field) => [field.rule.name, field.slip]).filter(([, slip]) => slip));
    this.#problem.hidden = true;
    if (this.#mark(slips)) return;
    const values = Object.fromEntries(asked.map((field) => [field.rule.name, field.value]).filter(([, value]) => value));
    this.#occupy(true);
    const answer = await api.connect(this.#provider, values).catch((error) => error);
    this.#occupy(false);
    // By now the secrets are with the server, or nowhere.
    const emptied = this.#fields.filter((field) => field.forget());
    if (answer instanceof Error) this.#fail(answer, emptied);
    else this.#succeed(answer);
  }

  #occupy(sending) {
    this.#sending = sending;
    this.#state = sending ? "sending" : "form";
    this.#submit.textContent = sending ? words.sending : words.submit;
    this.#submit.setAttribute("aria-disabled", String(sending));
  }

  /** Put each sentence beside its field, and the focus on the first. Says whether there was any. */
  #mark(sentences) {
    let first = null;
    for (const field of this.#fields.filter(({ input }) => input)) {
      const sentence = sentences[field.rule.name] ?? "";
      field.mend(sentence);
      if (sentence && !field.row.hidden) first ??= field.input;
    }
    first?.focus();
    return Boolean(first);
  }

  #fail(error, emptied) {
    if (!(error instanceof api.Problem)) throw error;
    const lines = [element("p", {}, error.signedOut ? page.sessionEnded : error.message)];
    if (error.signedOut) lines.push(element("a", { href: "/sign-in", target: "_blank", rel: "noopener" }, page.signInAgain));
    else if (error.requestId) lines.push(element("p", { class: "small" }, words.requestId(error.requestId)));
    this.#problem.replaceChildren(icon("alert"), element("div", {}, ...lines));
    this.#problem.hidden = false;
    if (!this.#mark(error.fields)) this.#problem.focus();
    for (const field of emptied.filter(({ rule }) => !error.fields[rule.name])) field.mend(words.emptied);
  }

  #succeed(result) {
    this.#state = "success";
    const list = element("dl", { class: "facts" });
    for (const name of RESULTS.filter((key) => result[key])) {
      list.append(element("dt", {}, labels[name].label), element("dd", {}, element("code", { "data-result": name }, result[name])));
    }
    const done = button(words.done, { class: "button first", "data-action": "done", "aria-describedby": "connect-result" });
    done.addEventListener("click", () => this.#close());
    const warnings = (result.warnings ?? []).map((warning) => element("li", {}, warning));
    this.#fields = [];
    this.#dialog.replaceChildren(
      this.#head(false),
      element(
        "div",
        { class: "dialog-body" },
        element("div", { class: "box good", id: "connect-result" }, icon("check"), element("div", {}, element("p", {}, words.connectedTitle(this.#name)), list)),
        warnings.length ? element("div", { class: "box warn" }, icon("info"), element("div", {}, element("p", {}, words.warnings), element("ul", {}, ...warnings))) : null,
        element("div", { class: "dialog-foot" }, done),
      ),
    );
    done.focus();
    this.dispatchEvent(new CustomEvent("integration-connected", { bubbles: true, detail: { provider: this.#provider } }));
  }

  #close() {
    if (!this.#sending) this.#dialog.close();
  }
}

customElements.define("connect-dialog", ConnectDialog);
