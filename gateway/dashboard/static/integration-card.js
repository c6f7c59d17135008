// One integration as a card. In: `data-provider`, and the state by `show()`. Out: the event `integration-action`.

import { offersOf, stateOf } from "./card-state.js";
import { button, element } from "./element.js";
import { icon } from "./icon.js";
import { date, untilDay } from "./moment.js";
import { actions, busy, card as text, nextSteps, providers, states } from "./text.js";

const BADGES = {
  loading: "clock",
  empty: "circle",
  configuring: "dots",
  connected: "check",
  limited: "info",
  "rotation-due": "clock",
  error: "alert",
  disconnected: "pause",
  unavailable: "slash",
  unknown: "question",
};
// States in which nothing needs to be done.
const AT_REST = new Set(["connected", "limited"]);
const WORKS = new Set([...AT_REST, "rotation-due"]);

class IntegrationCard extends HTMLElement {
  #shown = { state: "loading" };
  #newest = this.#shown;
  #notice = null;
  #busy = "";
  #sending = false;
  #description = {};
  #parts = new Map();
  #anew = false;

  connectedCallback() {
    this.setAttribute("role", "group");
    this.setAttribute("aria-labelledby", `${this.provider}-name`);
    const [head, body, main, below] = ["card-head", "card-body", "card-main", "card-below"].map((name) => element("div", { class: name }));
    this.#parts = new Map([head, body, main, below].map((part) => [part, ""]));
    this.replaceChildren(head, body, element("div", { class: "card-foot" }, main, below));
    this.#render();
  }

  get provider() {
    return this.dataset.provider;
  }

  get name() {
    return providers[this.provider].name;
  }

  /** Show an integration as the status endpoint gives it. */
  show(integration) {
    this.#newest = integration;
    // A state that comes before an action's end would offer what cannot be done yet.
    if (this.#busy) return;
    // What an action brought to light is over when something has changed since.
    if (JSON.stringify(integration) !== JSON.stringify(this.#shown)) this.#notice = null;
    const before = this.#shown.lastVerified;
    this.#anew = Boolean(before) && before !== integration.lastVerified;
    this.#shown = integration;
    this.#render();
  }

  /** Say how this installation can connect it, as the server describes it. */
  describe(description) {
    this.#description = description;
    this.#render();
  }

  /** Show what an action brought to light, as `warn`, `info` or `bad`; the empty sentence shows nothing. */
  tell(sentence, kind = "warn") {
    this.#notice = sentence ? { sentence, kind } : null;
    this.#render();
  }

  /** Say that an action is under way; the empty string ends it. */
  occupy(action) {
    this.#busy = action;
    if (action) this.#notice = null;
    else this.show(this.#newest);
    this.#render();
  }

  /** Say whether its dialog is sending what was typed. */
  configure(sending) {
    this.#sending = sending;
    this.#render();
  }

  /** Put the focus on the card's first action. */
  focus() {
    (this.querySelector("[data-action]") ?? this.querySelector("h2")).focus();
  }

  get #state() {
    return this.#sending ? "configuring" : stateOf(this.#shown, this.#description);
  }

  #render() {
    if (!this.#parts.size) return;
    const state = this.#state;
    const [head, body, main, below] = this.#parts.keys();
    this.dataset.state = state;
    this.setAttribute("aria-busy", String(Boolean(this.#busy) || state === "loading"));
    this.#put(head, [state, this.#sending], () => this.#head(state));
    // A day that has come shows without anything new from the server.
    const due = this.#shown.rotationDueAt && untilDay(new Date(this.#shown.rotationDueAt));
    this.#put(body, [state, this.#shown, this.#notice, this.#description, due], () => this.#body(state));
    // While its dialog sends, the buttons stay: the focus comes back to one of them.
    const rests = stateOf(this.#shown, this.#description);
    const may = document.body.dataset.mayChange === "true";
    const offers = may ? offersOf(rests, this.#shown, this.#description) : { main: [], below: [] };
    this.#put(main, [rests, offers.main], () => offers.main.map((offer, index) => this.#button(...offer, !index && !AT_REST.has(rests))));
    this.#put(below, offers.below, () => offers.below.map((offer) => this.#button(...offer)));
    for (const made of this.querySelectorAll("[data-words]")) this.#occupied(made);
  }

  /** Make a part of the card anew, but only when it shows something else now; the focus stays where it was. */
  #put(part, key, make) {
    const shows = JSON.stringify(key);
    if (this.#parts.get(part) === shows) return;
    this.#parts.set(part, shows);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const { action } = focused?.dataset ?? {};
    part.replaceChildren(...make().filter(Boolean));
    if (!focused) return;
    // Where there was a button, Enter must not press another one.
    (part.querySelector(action ? `[data-action="${action}"]` : focused.localName) ?? this.querySelector("h2")).focus();
  }

  #head(state) {
    const says = this.#sending ? text.sending : states[state];
    return [
      element("img", { src: `/static/marks/${this.provider}.svg`, alt: "", width: 44, height: 44 }),
      element("h2", { id: `${this.provider}-name`, tabindex: "-1" }, this.name),
      element("span", { class: "badge", "data-badge": state }, icon(BADGES[state]), says),
    ];
  }

  #body(state) {
    const about = element("p", {}, providers[this.provider].description);
    if (state === "loading") return [about, element("div", { class: "bone" }), element("div", { class: "bone short" })];
    return [about, this.#facts(state), this.#remark(state), this.#due(state), this.#error(state), this.#warnings(state), this.#told()];
  }

  #facts(state) {
    const { hint, account, phoneNumber, inboundAssistantId, outboundAssistantId, lastVerified } = this.#shown;
    // What was made at the provider helps nobody who has to mend the credential first.
    const made = state === "error" ? [] : [
      [text.inboundAssistantId, inboundAssistantId && code(inboundAssistantId)],
      [text.outboundAssistantId, outboundAssistantId && code(outboundAssistantId)],
    ];
    const rows = [
      [text.hint, hint && code(hint, { "data-hint": "" })],
      [text.account, account],
      [text.phoneNumber, phoneNumber && code(phoneNumber, { "data-phone-number": "" })],
      ...made,
      [text.lastVerified, lastVerified && element("time-ago", { datetime: lastVerified, "data-last-verified": "", "data-anew": this.#anew })],
    ].filter(([, value]) => value);
    if (!rows.length) return null;
    return element("dl", { class: "facts" }, ...rows.flatMap(([label, value]) => [element("dt", {}, label), element("dd", {}, value)]));
  }

  #remark(state) {
    const remark = {
      empty: this.#description.next,
      unavailable: text.unavailable,
      unknown: text.unknown,
      configuring: this.#sending ? "" : text.unfinished,
      disconnected: this.#description.byConsent ? text.consentOver : text.disconnected,
    }[state];
    return remark ? element("p", { class: "remark" }, remark) : null;
  }

  #due(state) {
    if (state !== "rotation-due") return null;
    const due = new Date(this.#shown.rotationDueAt);
    const sentence = due < Date.now() ? text.overdue(date(due)) : text.due(date(due), untilDay(due));
    return box("warn", "clock", { "data-due": "" }, element("p", {}, sentence), element("p", { class: "next" }, text.renew(this.name), ...this.#console()));
  }

  #error(state) {
    const { error, reason } = this.#shown;
    if (!error) return null;
    const step = nextSteps[reason] ?? nextSteps.other;
    const next = state === "error" && element("p", { class: "next", "data-next": "" }, step(this.name), ...this.#console());
    return box("bad", "alert", { "data-error": "" }, element("p", {}, error), next);
  }

  #warnings(state) {
    const { warnings } = this.#shown;
    if (!warnings?.length || !WORKS.has(state)) return null;
    const list = element("ul", {}, ...warnings.map((warning) => element("li", {}, warning)));
    return box("warn", "info", { "data-warnings": "" }, element("p", {}, text.limits), list);
  }

  #told() {
    if (!this.#notice) return null;
    const { sentence, kind } = this.#notice;
    return box(kind, kind === "bad" ? "alert" : "info", { "data-notice": "" }, element("p", {}, sentence));
  }

  #console() {
    const { consoleUrl } = this.#description;
    return consoleUrl ? [" ", element("a", { href: consoleUrl, target: "_blank", rel: "noopener noreferrer" }, text.console(this.name))] : [];
  }

  #button(action, words, standsOut = false) {
    const made = button("", { class: standsOut ? "button first" : "button", "data-action": action, "data-words": words });
    made.addEventListener("click", () => this.#act(action));
    return made;
  }

  #occupied(made) {
    const { action, words } = made.dataset;
    const working = this.#busy === action;
    const says = working ? busy[action] : actions[words];
    if (made.textContent !== says) made.textContent = says;
    made.setAttribute("aria-label", text.actionFor(says, this.name));
    made.setAttribute("aria-disabled", String(Boolean(this.#busy)));
  }

  #act(action) {
    if (this.#busy) return;
    const detail = { provider: this.provider, action };
    this.dispatchEvent(new CustomEvent("integration-action", { bubbles: true, detail }));
  }
}

const code = (value, attributes = {}) => element("code", attributes, value);

const box = (kind, mark, attributes, ...lines) =>
  element("div", { class: `box ${kind}`, ...attributes }, icon(mark), element("div", {}, ...lines));

customElements.define("integration-card", IntegrationCard);
