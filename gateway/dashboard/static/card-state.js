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

const [VERIFY, CONFIGURE, RECONNECT, DISCONNECT] = ["verify", "configure", "reconnect", "disconnect"].map((name) => [name, name]);
// For each state its actions in their order, each with its words, and then those that stand back.
const OFFERED = {
  empty: [[["connect", "connect"]]],
  configuring: [[["connect", "finish"]], [DISCONNECT]],
  connected: [[VERIFY, CONFIGURE], [DISCONNECT]],
  limited: [[VERIFY, CONFIGURE, RECONNECT], [DISCONNECT]],
  "rotation-due": [[["configure", "renew"]], [VERIFY, DISCONNECT]],
  error: [[["configure", "reconfigure"], VERIFY], [DISCONNECT]],
  disconnected: [[RECONNECT, ["configure", "reconfigure"]]],
};
const ROTATING = new Set(["connected", "limited"]);
// Only another consent takes the place of one that was given up, or adds to one.
const BY_CONSENT = { disconnected: "empty", limited: "connected" };

/** What can be done in a state, as `[action, words]`. */
export function offersOf(state, { rotatesByItself }, { byConsent = false } = {}) {
  const [main = [], below = []] = OFFERED[(byConsent && BY_CONSENT[state]) || state] ?? [];
  return { main, below: rotatesByItself && ROTATING.has(state) ? [["rotate", "rotate"], ...below] : below };
}
