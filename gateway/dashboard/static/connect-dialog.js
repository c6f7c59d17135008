// The dialog that connects a provider. In: `open(description, {replaces})`. Out: the events `dialog-sending` (whether it
// is), `integration-connected` and `dialog-closed`.

import * as api from "./api.js";
import { BackButton } from "./back-button.js";
import "./closing-note.js";
import { ConnectForm } from "./connect-form.js";
import "./copy-code.js";
import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { whenSignedIn } from "./signed-in.js";
import { dialog as words, page, results as labels } from "./text.js";

// Milliseconds after which it is said that it takes long.
const SLOW = 8_000;

const line = (...content) => element("p", {}, ...content);

class ConnectDialog extends HTMLElement {
  #dialog = element("dialog", { id: "connect-dialog", "aria-labelledby": "connect-title" });
  #description = null;
  #form = null;
  #slow = 0;
  #byPointer = false;
  #unwatch = () => {};
  #backButton = new BackButton(() => this.#close());

  connectedCallback() {
    this.replaceChildren(this.#dialog);
    this.#dialog.addEventListener("cancel", (event) => this.#sending && event.preventDefault());
    // A second Escape would close it all the same.
    this.#dialog.addEventListener("keydown", (event) => this.#sending && event.key === "Escape" && event.preventDefault());
    this.#dialog.addEventListener("click", (event) => this.#isBeside(event) && !this.#form?.touched && this.#close());
    // Whatever way it was closed, nothing that was typed stays in the page.
    this.#dialog.addEventListener("close", () => this.#empty());
    window.addEventListener("pagehide", () => this.#form?.forget());
    // On the way back the browser may show the page just as it was left.
    window.addEventListener("pageshow", (event) => event.persisted && this.#sending && this.#stop());
  }

  /** Ask for a provider's credential or consent. `replaces` says that there is one already. */
  open(description, { replaces = false } = {}) {
    if (this.#dialog.open) return;
    this.#description = description;
    this.#dialog.dataset.provider = description.provider;
    this.#state = "form";
    const form = (this.#form = new ConnectForm(description, replaces));
    form.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#connect();
    });
    // The Enter key clicks too, but with no finger and no mouse.
    form.submit.addEventListener("click", ({ detail }) => (this.#byPointer = detail > 0));
    form.test?.addEventListener("click", () => this.#test());
    form.cancel.addEventListener("click", () => this.#close());
    this.#show((replaces ? words.configureTitle : words.connectTitle)(description.title), form.element);
    this.#dialog.showModal();
    this.#backButton.arm();
    form.focus();
  }

  get #sending() {
    return this.#dialog.dataset.state === "sending";
  }

  set #state(state) {
    this.#dialog.dataset.state = state;
  }

  #isBeside({ target, clientX, clientY }) {
    const { left, right, top, bottom } = this.#dialog.getBoundingClientRect();
    return target === this.#dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
  }

  /** Close it, unless a connect is under way. Says whether it is closed. */
  #close() {
    if (!this.#sending) this.#dialog.close();
    return !this.#dialog.open;
  }

  #empty() {
    this.#form?.forget();
    this.#form = null;
    this.#unwatch();
    clearTimeout(this.#slow);
    this.#dialog.replaceChildren();
    this.#backButton.disarm();
    this.#tell("dialog-closed");
  }

  #tell(event, detail = {}) {
    const { provider } = this.#description;
    this.dispatchEvent(new CustomEvent(event, { bubbles: true, detail: { provider, ...detail } }));
  }

  #show(title, body) {
    const close = button(icon("close"), { class: "button plain round", "data-action": "close", "aria-label": words.close });
    close.addEventListener("click", () => this.#close());
    const mark = element("img", { src: `/static/marks/${this.#description.provider}.svg`, alt: "", width: 32, height: 32 });
    const heading = element("h2", { id: "connect-title", tabindex: "-1" }, title);
    this.#dialog.replaceChildren(element("div", { class: "dialog-head" }, mark, heading, close), body);
  }

  async #connect() {
    const { provider, byConsent } = this.#description;
    const form = this.#form;
    const answer = await this.#ask("sending", (values) => {
      this.#tell("dialog-sending", { sending: true });
      return byConsent ? api.startConsent() : api.connect(provider, values);
    });
    if (!answer) return;
    const isOpen = form === this.#form;
    // The browser is on its way; until it has left, nothing is to be clicked twice.
    if (answer.authorizationUrl && isOpen) return location.assign(answer.authorizationUrl);
    this.#tell("dialog-sending", { provider, sending: false });
    if (answer.success && !byConsent) this.#tell("integration-connected", { provider });
    if (!isOpen) return;
    this.#occupy("form");
    if (answer instanceof Error) this.#fail(answer);
    else this.#succeed(answer);
    // By now the secrets are with the server, or nowhere.
    form.forget({ except: answer.fields });
  }

  async #test() {
    const { provider, title } = this.#description;
    const form = this.#form;
    const answer = await this.#ask("testing", (values) => api.test(provider, values));
    // Whoever closed it does not want to know.
    if (!answer || form !== this.#form) return;
    this.#occupy("form");
    if (answer instanceof Error) return this.#fail(answer);
    const { accepted, account, warnings, error, field = "" } = answer;
    if (accepted) return form.say("good", "check", line(words.accepted(title, account)), ...known(warnings));
    // What was refused is of no use any more; everything else stays.
    if (field) form.forget({ only: field });
    this.#blame(words.refused(title), { [field]: error });
  }

  /** Ask the server with what was typed. Nothing when there is no sense in it; a Problem is returned. */
  async #ask(state, question) {
    if (this.#dialog.dataset.state !== "form" || !this.#form.check()) return null;
    this.#unwatch();
    this.#occupy(state);
    const answer = await question(this.#form.values).catch((error) => error);
    clearTimeout(this.#slow);
    if (answer instanceof Error && !(answer instanceof api.Problem)) throw answer;
    return answer;
  }

  #occupy(state) {
    this.#state = state;
    this.#form.occupy(state !== "form");
    for (const made of this.#dialog.querySelectorAll('[data-action="cancel"], [data-action="close"]')) made.ariaDisabled = String(state === "sending");
    this.#form.say(...(state === "form" ? [] : ["busy", "clock", words[state]]));
    if (state !== "form") this.#slow = setTimeout(() => this.#form?.say("busy", "clock", words.slow), SLOW);
  }

  #stop() {
    this.#tell("dialog-sending", { sending: false });
    this.#occupy("form");
  }

  #fail(error) {
    if (!error.signedOut) return this.#blame(error.message, error.fields, error.requestId);
    // Who comes next to this machine may be somebody else.
    this.#form.forget();
    const way = element("a", { href: "/sign-in", target: "_blank", rel: "noopener" }, page.signInAgain);
    this.#form.say("bad", "alert", line(page.sessionEnded), line(words.kept), way).focus();
    this.#unwatch = whenSignedIn((problem) => {
      if (problem) return this.#fail(problem);
      this.#form.say("good", "check", line(words.goOn));
      this.#form.focus();
    });
  }

  /** Say what went wrong, once: beside the fields that it is about, else above the buttons. */
  #blame(sentence, fields, requestId) {
    const names = Object.keys(fields);
    const said = names.filter((name) => !this.#form.has(name)).map((name) => fields[name]);
    if (said.length === names.length) said.unshift(sentence);
    const lines = [...new Set(said)].map((each) => line(each));
    if (requestId) lines.push(element("p", { class: "small" }, words.requestId(requestId)));
    if (said.length) this.#form.say("bad", "alert", ...lines).focus();
    this.#form.mark(fields);
  }

  #succeed(result) {
    this.#state = "success";
    this.#form = null;
    const facts = Object.entries(labels).flatMap(([name, label]) => (result[name] ? fact(name, label, result[name]) : []));
    const done = button(words.done, { class: "button first", "data-action": "done", "aria-describedby": "connect-result" });
    done.addEventListener("click", () => this.#close());
    const warnings = known(result.warnings);
    // What is to be read, and whoever works with keys, has all the time.
    const closes = this.#byPointer && !warnings.length && element("closing-note", { role: "status" });
    if (closes) closes.addEventListener("time-over", () => this.#close());
    const works = element("div", {}, line(words.works), element("dl", { class: "facts" }, ...facts));
    const body = element(
      "div",
      { class: "dialog-body" },
      element("div", { class: "box good", id: "connect-result" }, icon("check"), works),
      warnings.length > 0 && element("div", { class: "box warn" }, icon("info"), element("div", {}, ...warnings)),
      element("div", { class: "dialog-foot" }, closes, done),
    );
    this.#show(words.connectedTitle(this.#description.title), body);
    (closes ? this.#dialog.querySelector("h2") : done).focus();
  }
}

function fact(name, label, value) {
  const isId = name.endsWith("Id");
  const shown = isId ? element("copy-code", { label, value, "data-result": name }) : element("code", { "data-result": name }, value);
  return [element("dt", {}, label), element("dd", {}, shown)];
}

function known(warnings = []) {
  if (!warnings.length) return [];
  return [line(element("strong", {}, words.warnings)), element("ul", {}, ...warnings.map((warning) => element("li", {}, warning)))];
}

customElements.define("connect-dialog", ConnectDialog);
