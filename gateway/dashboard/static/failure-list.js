// The latest verifications that a provider refused. In: `show(events)`.

import { mark, sentence } from "./audit-table.js";
import { element } from "./element.js";
import { icon } from "./icon.js";
import { activity as text } from "./activity-text.js";

class FailureList extends HTMLElement {
  connectedCallback() {
    this.replaceChildren(element("div", { class: "bone" }));
  }

  /** Show these events of the history; without any, that all is well. */
  show(events) {
    const rows = events.map((event) => element("li", {}, mark(event.provider), element("div", {}, sentence(event), element("time-ago", { datetime: event.at }))));
    const all = element("a", { href: "/activity?action=credential.verify&failed=true#history" }, text.allFailures);
    this.replaceChildren(...(rows.length ? [element("ul", { class: "rows" }, ...rows), all] : [element("p", { class: "box good" }, icon("check"), text.noFailures)]));
  }
}

customElements.define("failure-list", FailureList);
