// When each credential is to be replaced, and by whom. In: `show(status)`.

import { mark, nameOf } from "./audit-table.js";
import { element } from "./element.js";
import { icon } from "./icon.js";
import { date, untilDay } from "./moment.js";
import { activity as text } from "./activity-text.js";
import { providers } from "./text.js";

const SOON = 7 * 86_400_000;

class DueDates extends HTMLElement {
  connectedCallback() {
    this.#fill(() => [element("div", { class: "bone" })]);
  }

  /** Show the dates in what the status endpoint gave. */
  show(status) {
    this.#fill((name) => due(status[name] ?? {}));
  }

  #fill(say) {
    const rows = Object.keys(providers).map((name) => {
      const [small, badge] = say(name);
      return element("li", {}, mark(name), element("div", {}, nameOf(name), element("div", { class: "small" }, small)), badge);
    });
    this.replaceChildren(element("ul", { class: "rows" }, ...rows));
  }
}

function due({ rotationDueAt, rotatesByItself, connected }) {
  if (!rotationDueAt) return [connected ? text.neverDue : text.notConnected];
  const then = new Date(rotationDueAt);
  const left = then - Date.now();
  const small = `${date(then)} · ${rotatesByItself ? text.byItself : text.byYou}`;
  if (rotatesByItself || left > SOON) return [small, untilDay(then)];
  const [kind, mark, words] = left < 0 ? ["over", "alert", text.overdue] : ["soon", "clock", untilDay(then)];
  return [small, element("span", { class: "badge", "data-due": kind }, icon(mark), words)];
}

customElements.define("due-dates", DueDates);
