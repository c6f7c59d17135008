// A point in time: how long ago, with the exact time on hover and focus.

import { element } from "./element.js";
import { locales } from "./languages.js";

const STEPS = { second: 60, minute: 60, hour: 24, day: 30, month: 12, year: Infinity };

// The sentences are English, so times are too, in the reader's own variety of it.
export const locale = locales().find(({ language }) => language === "en") ?? "en";
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "narrow" });
const ahead = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const hour = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const exact = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "long" });

/** The time of day of a Date. */
export const clock = (then) => hour.format(then);

/** The day of a Date. */
export const date = (then) => day.format(then);

const midnight = (then) => new Date(then).setHours(0, 0, 0, 0);

/** In how many days of the calendar a Date is; one that is over is today. */
export function untilDay(then) {
  // A day on which the clocks change is an hour longer or shorter.
  const days = Math.round((midnight(then) - midnight(Date.now())) / 86_400_000);
  return ahead.format(Math.max(0, days), "day");
}

/** How long ago, in as few letters as it can be said. */
export function ago(then, now = Date.now()) {
  // A clock that runs a little ahead must not make the past the future.
  let amount = Math.min(0, Math.round((then - now) / 1000));
  for (const [unit, size] of Object.entries(STEPS)) {
    if (Math.abs(amount) < size) return relative.format(amount, unit);
    amount = Math.trunc(amount / size);
  }
}

/** Shows its `datetime` as how long ago it is. Escape takes the exact time away that hover or focus brought. */
class TimeAgo extends HTMLElement {
  #timer;
  #close = ({ key }) => key === "Escape" && (this.dataset.closed = "");

  connectedCallback() {
    const then = new Date(this.getAttribute("datetime"));
    const shown = element("span");
    const tip = element("span", { class: "tip", role: "tooltip" }, exact.format(then));
    const time = element("time", { datetime: then.toISOString(), tabindex: "0" }, shown, tip);
    const update = () => (shown.textContent = ago(then));
    update();
    this.replaceChildren(time);
    this.#timer = setInterval(update, 15_000);
    for (const event of ["mouseenter", "focusin"]) this.addEventListener(event, () => this.#open());
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
    document.removeEventListener("keydown", this.#close);
  }

  #open() {
    delete this.dataset.closed;
    document.addEventListener("keydown", this.#close);
  }
}

customElements.define("time-ago", TimeAgo);
