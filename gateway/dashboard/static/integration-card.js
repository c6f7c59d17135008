// One integration as a card. In: `data-provider`, and the state by `show()`. Out: the event `integration-action`.

import { button, element } from "./element.js";
import { icon } from "./icon.js";
import "./moment.js";
import { actions, busy, card as text, providers, states } from "./text.js";

const BADGES = {
  loading: "clock",
  empty: "circle",
  connecting: "clock",
  connected: "check",
  refused: "alert",
  disconnected: "pause",
  unavailable: "clock",
  unknown: "circle",
};

// For each state the actions in their order, each with its words; the first one stands out.
const OFFERED = {
  empty: [["connect", "connect"]],
  connecting: [["connect", "finish"], ["disconnect", "disconnect"]],
  connected: [["verify", "verify"], ["configure", "configure"], ["disconnect", "disconnect"]],
  refused: [["configure", "configure"], ["verify", "verify"], ["disconnect", "disconnect"]],
  disconnected: [["reconnect", "reconnect"], ["configure", "replace"]],
};
const STANDS_OUT = new Set(["connect", "reconnect"]);

class IntegrationCard extends HTMLElement {
  #shown = { state: "loading" };
  #notice = "";
  #busy = "";
  #description = { available: true, byConsent: false };

  connectedCallback() {
    this.classList.add("card");
    this.setAttribute("role", "group");
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
    this.#shown = integration;
    this.#notice = "";
    this.#render();
  }

  /** Say how this installation can connect it, as the server describes it. */
  describe(description) {
    this.#description = description;
    this.#render();
  }

  /** Show what an action brought to light, until the next one. */
  complain(sentence) {
    this.#notice = sentence;
    this.#render();
  }

  /** Say that an action is under way; the empty string ends it. */
  occupy(action) {
    this.#busy = action;
    if (action) this.#notice = "";
    this.#render();
  }

  /** Put the focus on the card's first action. */
  focus() {
    this.querySelector("[data-action]")?.focus();
  }

  get #state() {
    const { state } = this.#shown;
    return state === "empty" && !this.#description.available ? "unavailable" : state;
  }

  #render() {
    const had = this.contains(document.activeElement) ? document.activeElement.dataset.action ?? "" : null;
    this.dataset.state = this.#state;
    this.toggleAttribute("data-busy", Boolean(this.#busy));
    this.setAttribute("aria-busy", String(Boolean(this.#busy) || this.#state === "loading"));
    const heading = `${this.provider}-name`;
    this.setAttribute("aria-labelledby", heading);
    this.replaceChildren(this.#head(heading), this.#body(), this.#foot());
    if (had !== null) (this.querySelector(`[data-action="${had}"]`) ?? this).focus();
  }

  #head(id) {
    const state = this.#state;
    return element(
      "div",
      { class: "card-head" },
      element("img", { src: `/static/marks/${this.provider}.svg`, alt: "", width: 40, height: 40 }),
      element("h2", { id }, this.name),
      element("span", { class: "badge", "data-badge": state }, icon(BADGES[state]), states[state]),
    );
  }

  #body() {
    const body = element("div", { class: "card-body" }, element("p", {}, providers[this.provider].description));
    if (this.#state === "loading") {
      body.append(element("div", { class: "bone" }), element("div", { class: "bone short" }));
      return body;
    }
    body.append(...[this.#facts(), this.#remark(), this.#error(), this.#warnings(), this.#complaint()].filter(Boolean));
    return body;
  }

  #facts() {
    const { hint, account, phoneNumber, inboundAssistantId, outboundAssistantId, lastVerified } = this.#shown;
    const rows = [
      [text.hint, hint && element("code", { "data-hint": "" }, hint)],
      [text.account, account],
      [text.phoneNumber, phoneNumber && element("code", { "data-phone-number": "" }, phoneNumber)],
      [text.inboundAssistantId, inboundAssistantId && element("code", {}, inboundAssistantId)],
      [text.outboundAssistantId, outboundAssistantId && element("code", {}, outboundAssistantId)],
      [text.lastVerified, lastVerified && element("time-ago", { datetime: lastVerified, "data-last-verified": "" })],
    ].filter(([, value]) => value);
    if (!rows.length) return null;
    const list = element("dl", { class: "facts" });
    for (const [label, value] of rows) list.append(element("dt", {}, label), element("dd", {}, value));
    return list;
  }

  #remark() {
    const remark = {
      unavailable: text.unavailable,
      connecting: text.unfinished,
      disconnected: this.#description.byConsent ? text.consentOver : text.disconnected,
    }[this.#state];
    return remark ? element("p", { class: "remark" }, remark) : null;
  }

  #error() {
    const { error } = this.#shown;
    if (!error) return null;
    const next = this.#state === "refused" ? element("p", { class: "next" }, text.refusedNext) : null;
    return element("div", { class: "box bad", "data-error": "" }, icon("alert"), element("div", {}, element("p", {}, error), next));
  }

  #warnings() {
    const { warnings } = this.#shown;
    if (!warnings || this.#notice) return null;
    const list = element("ul", {}, ...warnings.map((warning) => element("li", {}, warning)));
    return element("div", { class: "box warn", "data-warnings": "" }, icon("info"), element("div", {}, list));
  }

  #complaint() {
    if (!this.#notice) return null;
    return element("div", { class: "box warn", "data-notice": "" }, icon("info"), element("p", {}, this.#notice));
  }

  #foot() {
    const foot = element("div", { class: "card-foot" });
    if (document.body.dataset.mayChange !== "true") return foot;
    // A consent that was given up cannot be taken up again.
    const given = this.#state === "disconnected" && this.#description.byConsent;
    for (const [action, words] of OFFERED[given ? "empty" : this.#state] ?? []) {
      const working = this.#busy === action;
      const made = button(working ? busy[action] : actions[words], {
        "data-action": action,
        "aria-label": working ? null : text.actionFor(actions[words], this.name),
        "aria-disabled": this.#busy ? "true" : null,
        class: `button${STANDS_OUT.has(action) ? " first" : ""}${action === "disconnect" ? " plain away" : ""}`,
      });
      made.addEventListener("click", () => this.#act(action));
      foot.append(made);
    }
    return foot;
  }

  #act(action) {
    if (this.#busy) return;
    const detail = { provider: this.provider, action };
    this.dispatchEvent(new CustomEvent("integration-action", { bubbles: true, detail }));
  }
}

customElements.define("integration-card", IntegrationCard);
