// A point in time: how long ago, with the exact time on hover and focus.

import { element } from "./element.js";

const STEPS = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 30],
  ["month", 12],
  ["year", Infinity],
];

// The sentences are English, so times are too, in the reader's own variety of it.
const locale = navigator.languages.find((language) => language.startsWith("en")) ?? "en";
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "narrow" });
const exact = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "long" });

export function ago(then, now = Date.now()) {
  // A clock that runs a little ahead must not make the past the future.
  let amount = Math.min(0, Math.round((then - now) / 1000));
  for (const [unit, size] of STEPS) {
    if (Math.abs(amount) < size) return relative.format(amount, unit);
    amount = Math.trunc(amount / size);
  }
}

class TimeAgo extends HTMLElement {
  #timer;

  connectedCallback() {
    const then = new Date(this.getAttribute("datetime"));
    const shown = element("span");
    const tip = element("span", { class: "tip", role: "tooltip" }, exact.format(then));
    const time = element("time", { datetime: then.toISOString(), tabindex: "0" }, shown, tip);
    const update = () => (shown.textContent = ago(then));
    update();
    this.replaceChildren(time);
    this.#timer = setInterval(update, 15_000);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }
}

customElements.define("time-ago", TimeAgo);
