// The latest verifications that a provider refused. In: `show(page)`.

import { exactly, mark, sentence } from "./audit-table.js";
import { element } from "./element.js";
import { icon } from "./icon.js";
import { activity as text } from "./activity-text.js";

class FailureList extends HTMLElement {
  connectedCallback() {
    this.replaceChildren(element("div", { class: "bone" }));
  }

  /** Show a page of the history as the audit endpoint gave it; without events, since when all is well. */
  show({ events, next, since }) {
    const rows = events.map((event) => element("li", {}, mark(event.provider), element("div", {}, sentence(event), element("time-ago", { datetime: event.at }))));
    const all = element("a", { href: "/activity?action=credential.verify&failed=true#history" }, text.allFailures);
    const well = next ? text.noFailuresSince(exactly(since)) : text.noFailures;
    const list = rows.length ? element("ul", { class: "rows" }, ...rows) : element("p", { class: "box good" }, icon("check"), well);
    this.replaceChildren(list, ...(rows.length || next ? [all] : []));
  }
}

customElements.define("failure-list", FailureList);
