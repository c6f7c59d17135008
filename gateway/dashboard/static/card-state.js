// What a card makes of an integration: its state, and what can be done about it.

// Milliseconds before the day on which a credential should be replaced.
const REMINDED = 7 * 86_400_000;

const STATES = { connecting: "configuring", refused: "error" };

/** The state that a card shows of an integration, as the status endpoint gives it. */
export function stateOf({ state, warnings, rotationDueAt, rotatesByItself }, { available = true } = {}) {
  if (state === "empty" && !available) return "unavailable";
  if (state !== "connected") return STATES[state] ?? state;
  if (rotationDueAt && !rotatesByItself && new Date(rotationDueAt) - Date.now() < REMINDED) return "rotation-due";
  return warnings?.length ? "limited" : "connected";
}

// For each state its actions in their order, each with its words. Those below stand back.
const CONNECTED = { main: [["verify", "verify"], ["configure", "configure"]], below: [["disconnect", "disconnect"]] };
const EMPTY = { main: [["connect", "connect"]] };
const OFFERED = {
  empty: EMPTY,
  configuring: { main: [["connect", "finish"]], below: [["disconnect", "disconnect"]] },
  connected: CONNECTED,
  limited: CONNECTED,
  "rotation-due": { main: [["configure", "renew"]], below: [["verify", "verify"], ["disconnect", "disconnect"]] },
  error: { main: [["configure", "reconfigure"], ["verify", "verify"]], below: [["disconnect", "disconnect"]] },
  disconnected: { main: [["reconnect", "reconnect"], ["configure", "reconfigure"]] },
};
const ROTATING = new Set(["connected", "limited"]);

/** What can be done in a state, as `[action, words]`. */
export function offersOf(state, { rotatesByItself }, { byConsent = false } = {}) {
  // A consent that was given up cannot be taken up again.
  const { main = [], below = [] } = OFFERED[state === "disconnected" && byConsent ? "empty" : state] ?? {};
  return { main, below: rotatesByItself && ROTATING.has(state) ? [["rotate", "rotate"], ...below] : below };
}
