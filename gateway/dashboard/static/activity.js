// The activity page: brings the history, its filters and the overview together. What is chosen is in the address.

import "./access-chart.js";
import * as api from "./api.js";
import "./audit-filters.js";
import { exactly } from "./audit-table.js";
import "./due-dates.js";
import { element } from "./element.js";
import "./failure-list.js";
import { announce, complain, content } from "./frame.js";
import { watch } from "./live.js";
import { activity as text } from "./activity-text.js";
import { providers } from "./text.js";

const FILTERS = ["provider", "action", "service", "failed"];
const PERIODS = ["7", "30", "90"];
const USUAL = "30";
// How many pages are asked for in a row until one has something. Each looks through so many events and no more.
const PATIENCE = 10;

const find = (selector) => document.querySelector(selector);
const [table, filters, chart] = ["audit-table", "audit-filters", "access-chart"].map(find);
const [older, fresh] = ['[data-action="older"]', '[data-action="show-new"]'].map(find);

let chosen = {};
let days = USUAL;
let next = null;
let since = null;
let shown = null;
// How often the history was asked for: an answer that was overtaken by a later question is old.
let asked = 0;
// The parts that could not be loaded.
const behind = new Set();

/** Load these parts of the page, and those that failed before. Says whether it could. */
async function load(...parts) {
  const late = behind.size > 0;
  const wanted = [...new Set([...parts, ...behind])];
  behind.clear();
  const outcomes = await Promise.allSettled(wanted.map((part) => part()));
  const errors = outcomes.map(({ reason }) => reason).filter(Boolean);
  // What somebody reads, older events and all, is not taken from them by another try.
  const again = (part) => (part === more || (part === history && shown !== null) ? news : part);
  outcomes.forEach(({ reason }, index) => reason && behind.add(again(wanted[index])));
  if (errors.length) complain(errors.find(({ signedOut }) => signedOut) ?? errors[0], refresh);
  else if (!behind.size) {
    content();
    // The watch gave up when it failed.
    if (late) refresh();
  }
  return !errors.length;
}

async function history() {
  const mine = ++asked;
  const query = `${question()}`;
  table.ariaBusy = "true";
  const page = await look(query).catch((error) => error);
  if (mine !== asked) return;
  table.ariaBusy = "false";
  if (page.events) {
    shown = query;
    turn(page, 0);
  } else {
    // What answers another question must not stand there.
    if (query !== shown) {
      shown = null;
      table.show([], text.unavailable);
    }
    throw page;
  }
}

async function more() {
  const mine = asked;
  const page = await look(question({ before: next }));
  if (mine !== asked) return;
  const first = table.length;
  turn(page, first);
  const found = page.events.length;
  if (found) table.focusOn(first);
  // The button that had the focus is gone.
  else if (!next) find("#history").focus();
  announce(found ? text.added(found, table.length) : told());
}

async function news() {
  const mine = asked;
  const page = await api.audit(question());
  const count = page.events.filter(({ sequence }) => sequence > table.newest).length;
  // A history that is on its way has them.
  if (mine !== asked || table.ariaBusy === "true" || !count) return;
  fresh.textContent = text.showNew(count, page.next && count === page.events.length);
  if (fresh.hidden) announce(fresh.textContent);
  fresh.hidden = false;
}

async function access() {
  const wanted = days;
  const counted = await api.access(wanted);
  if (wanted !== days) return;
  chart.show(counted);
  filters.offer(counted.counts.map(({ service }) => service));
}

async function overview() {
  find("due-dates").show(await api.status());
}

async function failures() {
  find("failure-list").show(await look("action=credential.verify&failed=true&limit=3"));
}

const ALL = [history, access, overview, failures];

/** The first page of the history that has something, or the last that was asked for. */
async function look(query) {
  const wanted = new URLSearchParams(query);
  let page = await api.audit(wanted);
  for (let pages = 1; page.next && !page.events.length && pages < PATIENCE; pages++) {
    wanted.set("before", page.next);
    page = await api.audit(wanted);
  }
  return page;
}

/** Show a page below as many events. */
function turn(page, above) {
  ({ next, since } = page);
  if (above) table.add(page.events);
  else table.show(page.events, ...nothing());
  older.hidden = !next;
  fresh.hidden = true;
  filters.offer(page.events.map(({ service }) => service));
  find("#shown").textContent = table.length ? told() : "";
}

function told() {
  return table.length ? text.shown(table.length, next && exactly(since)) : noMatch();
}

function noMatch() {
  return next ? text.noMatchSince(exactly(since)) : text.noMatch;
}

function nothing() {
  return Object.keys(chosen).length ? [noMatch()] : [text.nothingYet, element("a", { href: "/" }, text.toIntegrations)];
}

function question(more = {}) {
  return new URLSearchParams({ ...chosen, ...more });
}

/** Take what is chosen out of the address. */
function read() {
  const given = new URLSearchParams(location.search);
  chosen = Object.fromEntries(FILTERS.map((name) => [name, given.get(name)]).filter(([, value]) => value));
  if (!providers[chosen.provider]) delete chosen.provider;
  days = PERIODS.includes(given.get("days")) ? given.get("days") : USUAL;
  filters.show(chosen);
  chart.choose(days);
  find("#export").href = `/api/integrations/audit.csv?${question({ org: document.body.dataset.org })}`;
}

async function choose(values, part, tell) {
  const address = new URLSearchParams(Object.entries(values).filter(([, value]) => value && value !== USUAL));
  window.history.pushState(null, "", address.size ? `?${address}` : location.pathname);
  read();
  if (await load(part)) announce(tell());
}

document.addEventListener("filters-changed", ({ detail }) => choose({ ...detail, days }, history, told));
document.addEventListener("period-changed", ({ detail }) => choose({ ...chosen, days: detail }, access, () => text.counted(days)));
window.addEventListener("popstate", () => {
  read();
  load(history, access);
});
older.addEventListener("click", async () => {
  if (older.ariaDisabled === "true") return;
  older.ariaDisabled = "true";
  await load(more);
  older.ariaDisabled = "false";
});
fresh.addEventListener("click", async () => {
  if (!(await load(history))) return;
  table.focusOn(0);
  announce(told());
});
find('[data-action="refresh"]').addEventListener("click", async ({ currentTarget }) => {
  currentTarget.dataset.busy = "";
  if (await load(...ALL)) announce(text.refreshed);
  delete currentTarget.dataset.busy;
});

read();
// Nothing moves that somebody reads: new events are offered.
const refresh = watch(() => (shown === null ? load(...ALL) : load(news, access, overview, failures)));
// Another tab of ours changed something, a sign-in too.
new BroadcastChannel("tenantvault").addEventListener("message", ({ data }) => data !== "signed-out" && refresh());
