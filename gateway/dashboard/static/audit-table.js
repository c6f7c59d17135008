// The history: a table, and a list where there is no room for one. In: `show(events)`, `add(events)`.

import { element } from "./element.js";
import { icon } from "./icon.js";
import { ago, clock, date } from "./moment.js";
import { activity as text } from "./activity-text.js";
import { providers } from "./text.js";

const BONES = 8;
const WORDS = Object.assign({}, ...Object.values(text.kinds));

/** A provider or a service as customers call it; one that we have no word for as it is. */
export const nameOf = (name) => providers[name]?.name ?? text.services[name] ?? name;

/** The mark of the provider that an event is about, or ours. */
export const mark = (provider) =>
  element("img", { src: providers[provider] ? `/static/marks/${provider}.svg` : "/static/favicon.svg", alt: "", width: 24, height: 24 });

/** A point in time, as a day and a time of day. */
export function exactly(at) {
  const then = new Date(at);
  return `${date(then)}, ${clock(then)}`;
}

/** What happened, as a sentence; of what we have no words for, its code. */
export function sentence({ action, service, person, provider, version, outcome }) {
  const [, fine, bad = fine] = WORDS[action] ?? [action, action];
  const values = { service: nameOf(service), who: isSomebody(person) ? person : nameOf(service), provider: nameOf(provider), version };
  return (outcome === "ok" ? fine : bad).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

class AuditTable extends HTMLElement {
  #body = element("tbody", { role: "rowgroup" });
  #timer;

  connectedCallback() {
    const heads = text.columns.map((words) => element("th", { role: "columnheader" }, words));
    // The roles are said, because a table that is laid out as a list is heard as none.
    const head = element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads));
    this.replaceChildren(element("table", { role: "table", "aria-labelledby": "history-title" }, head, this.#body));
    this.#body.append(...Array.from({ length: BONES }, () => row({}, heads.map(() => element("div", { class: "bone" })))));
    this.#timer = setInterval(() => this.#tick(), 15_000);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  get length() {
    return this.querySelectorAll("[data-sequence]").length;
  }

  /** The number of the newest event that is shown, or 0. */
  get newest() {
    return Number(this.#body.rows[0]?.dataset.sequence ?? 0);
  }

  /** Show these events and no others; when there are none, a remark. */
  show(events, ...remark) {
    this.#body.replaceChildren();
    if (events.length) this.add(events);
    else this.#body.append(element("tr", { role: "row", class: "nothing" }, element("td", { role: "cell", colspan: 4 }, ...remark)));
  }

  /** Show these events below the others. */
  add(events) {
    this.#body.append(...events.map((event) => row({ "data-sequence": event.sequence, tabindex: "-1" }, cells(event))));
  }

  /** Put the focus on an event, counted from 0. */
  focusOn(index) {
    this.#body.rows[index]?.focus();
  }

  #tick() {
    for (const time of this.querySelectorAll("time")) time.textContent = ago(new Date(time.dateTime));
  }
}

// Work that was due by itself is done for nobody.
function isSomebody(person) {
  return person && person !== "schedule";
}

function row(attributes, content) {
  return element("tr", { role: "row", ...attributes }, ...content.map((cell) => element("td", { role: "cell" }, ...[cell].flat())));
}

function cells(event) {
  const { at, service, person, provider, outcome } = event;
  const fine = outcome === "ok";
  const behalf = person && (isSomebody(person) ? text.behalf(person) : text.byItself);
  return [
    [element("time", { datetime: at }, ago(new Date(at))), small(exactly(at))],
    element("div", { class: "what" }, mark(provider), element("div", {}, sentence(event), details(event))),
    [nameOf(service), small(behalf)],
    element("span", { class: fine ? "fine" : "badge", "data-outcome": outcome }, icon(fine ? "check" : "alert"), text.outcomes[outcome] ?? outcome),
  ];
}

function small(words) {
  return element("div", { class: "small" }, words);
}

function details(event) {
  const list = element("dl", { class: "facts" });
  for (const [name, label] of Object.entries(text.details).filter(([key]) => event[key])) {
    list.append(element("dt", {}, label), element("dd", {}, element("code", { "data-detail": name }, event[name])));
  }
  return element("details", {}, element("summary", {}, element("code", {}, event.action)), list);
}

customElements.define("audit-table", AuditTable);
