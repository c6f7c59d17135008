// How often services were given credentials: bars, and the same as a table. In: `choose(days)`, `show(access)`.
// Out: the event `period-changed`.

import { nameOf } from "./audit-table.js";
import { element } from "./element.js";
import { ago, date, locale } from "./moment.js";
import { activity as text } from "./activity-text.js";
import { providers } from "./text.js";

const PERIODS = [7, 30, 90];
const DAY = 86_400_000;
const figures = new Intl.NumberFormat(locale);
const number = (value) => figures.format(value);
// Others are in the table. Room is kept for as many, so that nothing moves.
const BARS = 3;
// Told apart without colours: lines on a square of eight by eight.
const PATTERNS = {
  vapi: "",
  twilio: "M-2 2l4-4M0 8l8-8M6 10l4-4",
  googleCalendar: "M1 2h2M5 6h2",
  resend: "M4 0v8",
  elevenlabs: "M0 4h8",
};

class AccessChart extends HTMLElement {
  #bars = element("div", { class: "bars" });
  #periods = PERIODS.map((days) => element("input", { type: "radio", name: "days", value: days }));

  connectedCallback() {
    const segments = this.#periods.map((input) => element("label", { class: "segment" }, input, element("span", {}, text.days(input.value))));
    const choice = element("fieldset", { class: "segments", "aria-label": text.period }, ...segments);
    choice.addEventListener("change", ({ target }) => this.dispatchEvent(new CustomEvent("period-changed", { bubbles: true, detail: target.value })));
    this.replaceChildren(patterns(), choice, this.#bars);
    this.#bars.append(...PERIODS.map(() => element("div", { class: "reader" }, element("div", { class: "bone" }))));
  }

  /** Show a period as chosen: the days, as text. */
  choose(days) {
    for (const input of this.#periods) input.checked = input.value === days;
  }

  /** Show what the access endpoint gave. */
  show({ since, counts }) {
    const readers = {};
    for (const each of counts) (readers[each.service] ??= []).push(each);
    const sums = Object.entries(readers)
      .map(([service, reads]) => ({ service, reads, sum: reads.reduce((sum, each) => sum + each.reads, 0) }))
      .sort((one, other) => other.sum - one.sum);
    const bars = sums.slice(0, BARS).map((reader) => bar(reader, sums[0].sum));
    const days = this.#periods.find(({ checked }) => checked)?.value;
    // An hour, because not every clock is right.
    const cut = new Date(since) - Date.now() + days * DAY > DAY / 24;
    const remark = cut ? [element("p", { class: "small", "data-cut": "" }, text.countedSince(date(new Date(since))))] : [];
    this.#bars.replaceChildren(...(counts.length ? [...bars, ...remark, legend(counts), table(counts, since)] : [text.noReads, ...remark]));
  }
}

function bar({ service, reads, sum }, most) {
  const said = reads.map((each) => `${nameOf(each.provider)} ${number(each.reads)}`);
  const svg = draw("svg", { width: "100%", height: 16, role: "img", "aria-label": `${nameOf(service)}: ${said.join(", ")}` });
  let x = 0;
  reads.forEach((each, index) => {
    // One read beside ten thousand is seen too.
    const width = Math.min(Math.max((100 * each.reads) / most, 1), 100 - x);
    const rect = draw("rect", { x: `${x}%`, width: `${width}%`, height: 16, fill: `url(#pattern-${each.provider})` });
    rect.append(draw("title", {}, said[index]));
    svg.append(rect);
    x += width;
  });
  return element("div", { class: "reader" }, nameOf(service), element("strong", {}, number(sum)), svg);
}

function legend(counts) {
  const used = Object.keys(providers).filter((name) => counts.some(({ provider }) => provider === name));
  const swatch = (name) => draw("svg", { width: 14, height: 14, "aria-hidden": "true" }, draw("rect", { width: 14, height: 14, fill: `url(#pattern-${name})` }));
  return element("ul", { class: "legend" }, ...used.map((name) => element("li", {}, swatch(name), nameOf(name))));
}

function table(counts, since) {
  const row = (tag, [first, ...cells]) => element("tr", {}, element("th", {}, first), ...cells.map((cell) => element(tag, {}, cell)));
  const rows = counts.map(({ service, provider, reads, lastReadAt }) => row("td", [nameOf(service), nameOf(provider), number(reads), ago(new Date(lastReadAt))]));
  return element("details", {}, element("summary", {}, text.asTable(date(new Date(since)))), element("table", {}, row("th", text.accessColumns), ...rows));
}

function patterns() {
  const svg = draw("svg", { class: "patterns", width: 0, height: 0, "aria-hidden": "true" });
  for (const [name, d] of Object.entries(PATTERNS)) {
    const shapes = [draw("rect", { width: 8, height: 8, "data-provider": name }), draw("path", { d })];
    svg.append(draw("pattern", { id: `pattern-${name}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" }, ...shapes));
  }
  return svg;
}

function draw(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

customElements.define("access-chart", AccessChart);
