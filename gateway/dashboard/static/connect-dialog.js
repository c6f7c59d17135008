// The dialog that connects a provider. In: `open(description, {replaces})`. Out: the event `integration-connected`.

import * as api from "./api.js";
import { button, element } from "./element.js";
import { FormField } from "./form-field.js";
import { icon } from "./icon.js";
import { dialog as words, page, results as labels } from "./text.js";

class ConnectDialog extends HTMLElement {
  #dialog = element("dialog", { id: "connect-dialog", "aria-labelledby": "connect-title" });
  #description = null;
  #fields = [];
  #problem = null;
  #submit = null;
  #sending = false;
  #leaving = false;

  connectedCallback() {
    this.replaceChildren(this.#dialog);
    this.#dialog.addEventListener("cancel", (event) => this.#sending && event.preventDefault());
    // A second Escape would close it all the same.
    this.#dialog.addEventListener("keydown", (event) => {
      if (this.#sending && event.key === "Escape") event.preventDefault();
    });
    // Whatever way it was closed, nothing that was typed stays in the page.
    this.#dialog.addEventListener("close", () => this.#empty());
    // On the way back the browser may show the page just as it was left.
    window.addEventListener("pageshow", (event) => event.persisted && this.#leaving && this.#return());
  }

  /** Ask for a provider's credential or consent. `replaces` says that there is one already. */
  open(description, { replaces = false } = {}) {
    this.#description = description;
    this.#dialog.dataset.provider = description.provider;
    this.#state = "form";
    this.#dialog.replaceChildren(this.#head(replaces), this.#form(replaces));
    this.#dialog.showModal();
    (this.#fields[0]?.input ?? this.#submit).focus();
  }

  set #state(state) {
    this.#dialog.dataset.state = state;
  }

  get #name() {
    return this.#description.title;
  }

  #empty() {
    for (const field of this.#fields) field.forget();
    this.#fields = [];
    this.#dialog.replaceChildren();
    this.dispatchEvent(new CustomEvent("dialog-closed", { bubbles: true, detail: { provider: this.#description.provider } }));
  }

  #head(replaces) {
    const title = replaces ? words.configureTitle(this.#name) : words.connectTitle(this.#name);
    const close = button(icon("close"), { class: "button plain round", "data-action": "close", "aria-label": words.close });
    close.addEventListener("click", () => this.#close());
    return element(
      "div",
      { class: "dialog-head" },
      element("img", { src: `/static/marks/${this.#description.provider}.svg`, alt: "", width: 32, height: 32 }),
      element("h2", { id: "connect-title" }, title),
      close,
    );
  }

  #form(replaces) {
    const { fields, byConsent, asksFor, consoleUrl, next } = this.#description;
    this.#fields = fields.map((rule) => new FormField(rule));
    this.#problem = element("div", { class: "box bad", role: "alert", tabindex: "-1", "data-problem": "" });
    this.#problem.hidden = true;
    this.#submit = element("button", { class: "button first", type: "submit", "data-action": "submit" }, this.#offer);
    const cancel = button(words.cancel, { "data-action": "cancel" });
    cancel.addEventListener("click", () => this.#close());
    const rows = (advanced) => this.#fields.filter(({ rule }) => rule.advanced === advanced).map(({ row }) => row);
    const rare = rows(true);
    const found = element("a", { href: consoleUrl, target: "_blank", rel: "noopener noreferrer" }, words.console(this.#name));
    const explains = element(
      "div",
      {},
      element("p", {}, next, replaces ? ` ${words.replaces}` : ""),
      byConsent ? element("ul", {}, ...asksFor.map((sentence) => element("li", {}, sentence))) : null,
      consoleUrl ? found : null,
    );
    const form = element(
      "form",
      { method: "post", novalidate: true, autocomplete: "off" },
      this.#problem,
      ...rows(false),
      rare.length ? element("details", {}, element("summary", {}, words.advanced), ...rare) : null,
      element("div", { class: "box info" }, icon("info"), explains),
      element("div", { class: "dialog-foot" }, cancel, this.#submit),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    return form;
  }

  get #offer() {
    return this.#description.byConsent ? words.consent : words.submit;
  }

  async #send() {
    if (this.#sending) return;
    const slips = Object.fromEntries(this.#fields.map((field) => [field.rule.name, field.slip]).filter(([, slip]) => slip));
    this.#problem.hidden = true;
    if (this.#mark(slips)) return;
    const values = Object.fromEntries(this.#fields.map((field) => [field.rule.name, field.value]).filter(([, value]) => value));
    const { provider, byConsent } = this.#description;
    this.#occupy(true);
    const answer = await (byConsent ? api.startConsent() : api.connect(provider, values)).catch((error) => error);
    // The browser is on its way; until it has left, nothing is to be clicked twice.
    if (answer.authorizationUrl) return this.#leave(answer.authorizationUrl);
    this.#occupy(false);
    // By now the secrets are with the server, or nowhere.
    const emptied = this.#fields.filter((field) => field.forget());
    if (answer instanceof Error) this.#fail(answer, emptied);
    else this.#succeed(answer);
  }

  #leave(url) {
    this.#leaving = true;
    location.assign(url);
  }

  #return() {
    this.#leaving = false;
    this.#occupy(false);
  }

  #occupy(sending) {
    this.#sending = sending;
    this.#state = sending ? "sending" : "form";
    this.#submit.textContent = sending ? words.sending : this.#offer;
    this.#submit.setAttribute("aria-disabled", String(sending));
  }

  /** Put each sentence beside its field, and the focus on the first. Says whether there was any. */
  #mark(sentences) {
    let first = null;
    for (const field of this.#fields) {
      const sentence = sentences[field.rule.name] ?? "";
      field.mend(sentence);
      if (!sentence) continue;
      first ??= field.input;
      field.row.closest("details")?.setAttribute("open", "");
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
    for (const [name, label] of Object.entries(labels).filter(([key]) => result[key])) {
      list.append(element("dt", {}, label), element("dd", {}, element("code", { "data-result": name }, result[name])));
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
    this.dispatchEvent(new CustomEvent("integration-connected", { bubbles: true, detail: { provider: this.#description.provider } }));
  }

  #close() {
    if (!this.#sending) this.#dialog.close();
  }
}

customElements.define("connect-dialog", ConnectDialog);
