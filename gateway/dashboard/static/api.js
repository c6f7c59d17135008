// The REST interface of the gateway. Secrets pass through here once and are kept nowhere.

import { problems } from "./text.js";

// Milliseconds. The longest that the server itself waits for a provider is 60 s, and 5 s to look something up.
const PATIENCE = 70_000;
const PATIENCE_TO_READ = 15_000;

export class Problem extends Error {
  constructor({ status = 0, code = "UNREACHABLE", detail = problems.unreachable, fields = {}, requestId = "" } = {}) {
    super(detail);
    Object.assign(this, { status, code, fields, requestId });
  }

  get signedOut() {
    return this.status === 401;
  }
}

export const status = () => ask("GET", "/api/integrations/status");
export const audit = (query) => ask("GET", `/api/integrations/audit?${query}`);
export const access = (days) => ask("GET", `/api/integrations/access?days=${days}`);
export const providers = async () => (await ask("GET", "/api/integrations/providers")).providers;
export const connect = (provider, values) => ask("POST", `/api/integrations/${provider}`, values);
export const test = (provider, values) => ask("POST", `/api/integrations/${provider}/test`, values);
export const verify = (provider) => ask("POST", `/api/integrations/${provider}/verify`);
export const disconnect = (provider) => ask("DELETE", `/api/integrations/${provider}`);
export const reconnect = (provider) => ask("POST", `/api/integrations/${provider}/reconnect`);
export const rotate = (provider) => ask("POST", `/api/integrations/${provider}/rotate`);
export const startConsent = () => ask("POST", "/api/auth/google-calendar/start");
export const finishConsent = (values) => ask("POST", "/api/auth/google-calendar/callback", values);
export const signIn = (org) => ask("POST", "/sign-in", { org });
export const signOut = () => ask("DELETE", "/session");

/** What is told of an answer that did not come, or broke off: what reached the server may have worked. */
function lost(method, answer, { name }) {
  if (method === "GET" || !(answer || name === "TimeoutError")) return new Problem();
  return new Problem({ code: "TOO_SLOW", detail: answer ? problems.brokenOff : problems.tooSlow });
}

async function ask(method, path, body) {
  const headers = { Accept: "application/json", "X-TenantVault-Request": "1" };
  // The page was made for one org. Should the session have changed to another meanwhile, the server refuses.
  if (document.body.dataset.org) headers["X-TenantVault-Org"] = document.body.dataset.org;
  if (body) headers["Content-Type"] = "application/json";
  let answer, content;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(method === "GET" ? PATIENCE_TO_READ : PATIENCE),
    });
    content = await answer.json();
  } catch (error) {
    // One that is no JSON came to its end all the same.
    if (error.name !== "SyntaxError") throw lost(method, answer, error);
  }
  if (answer.ok && content) return content;
  throw new Problem(content?.code ? content : { status: answer.status, code: "UNEXPECTED", detail: problems.unexpected });
}
