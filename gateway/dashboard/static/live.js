// Keeps a page true: by the server's events, and by asking again and again while those do not come.

const EVENTS = "/api/integrations/events";
// Milliseconds.
const POLL = 15_000;

/**
 * Call `load` now, and whenever something may have changed, for as long as somebody sees the page. It says whether it
 * could load. Calls never overlap: what is asked for meanwhile is one more call. Gives a function that asks for one.
 */
export function watch(load) {
  let source = null;
  let running = null;
  let more = false;
  let fine = true;
  let ticked = Date.now();

  async function run() {
    try {
      do {
        more = false;
        fine = await load();
      } while (more && fine);
      return fine;
    } finally {
      running = null;
    }
  }

  function refresh() {
    if (running) more = true;
    else running = run();
    return running;
  }

  function listen() {
    if (source && source.readyState !== EventSource.CLOSED) return;
    source = new EventSource(EVENTS);
    for (const event of ["ready", "changed"]) source.addEventListener(event, refresh);
  }

  // A hidden page holds no connection: browsers have only six for all tabs together.
  function hush() {
    source?.close();
    source = null;
  }

  function wake() {
    ticked = Date.now();
    listen();
    refresh();
  }

  function tick() {
    if (document.visibilityState === "hidden") return;
    // The machine slept: what looks open may be long gone.
    if (Date.now() - ticked > 3 * POLL) hush();
    ticked = Date.now();
    // After a failure somebody else tries again, less and less often.
    if (!fine) return;
    listen();
    if (source.readyState !== EventSource.OPEN) refresh();
  }

  document.addEventListener("visibilitychange", () => (document.visibilityState === "hidden" ? hush() : wake()));
  window.addEventListener("pageshow", ({ persisted }) => persisted && wake());
  window.addEventListener("online", wake);
  setInterval(tick, POLL);
  wake();
  return refresh;
}
