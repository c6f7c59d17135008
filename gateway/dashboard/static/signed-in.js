// Notices that a session that had ended is there again: somebody signed in in another tab.

import * as api from "./api.js";

/** Call `tell` once, as soon as it is so, with a Problem when it is a session of another org. Returns what ends the watch. */
export function whenSignedIn(tell) {
  const over = new AbortController();
  const options = { signal: over.signal };
  const look = async () => {
    const problem = await api.status().then(() => null, (error) => error);
    if (over.signal.aborted || (problem && problem.code !== "OTHER_ORG")) return;
    end();
    tell(problem);
  };
  const channel = new BroadcastChannel("tenantvault");
  const end = () => {
    over.abort();
    channel.close();
  };
  channel.addEventListener("message", look, options);
  window.addEventListener("focus", look, options);
  document.addEventListener("visibilitychange", look, options);
  return end;
}
