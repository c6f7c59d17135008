// Every sentence of the activity page.

const events = (count) => `${count} ${count === 1 ? "event" : "events"}`;

export const activity = {
  columns: ["When", "What happened", "By", "Outcome"],
  // Others are called as in the events.
  services: { provider: "TenantVault", operator: "The operator" },
  behalf: (person) => `for ${person}`,
  byItself: "by itself",
  byYou: "by you",
  // Of each action what it is called, what is said of it, and what is said when it did not end well.
  kinds: {
    Reads: {
      "credential.get": ["Credential handed out", "{service} was given the {provider} credential"],
      "credential.resolve": ["Handed out by number or id", "{service} was given the {provider} credential, by number or id"],
      "credential.get_newest": ["Newest credential handed out", "{service} was given the newest {provider} credential"],
    },
    Changes: {
      "credential.put": ["Credential stored", "{who} stored a new {provider} credential"],
      "credential.activate": ["Credential put into use", "{who} put the {provider} credential into use"],
      "credential.refresh": ["Access renewed", "{service} renewed its access to {provider}"],
      "credential.disconnect": ["Disconnected", "{who} disconnected {provider}"],
      "credential.reconnect": ["Reconnected", "{who} reconnected {provider}"],
      "credential.roll_back": ["Older version put into use", "{who} went back to version {version} of the {provider} credential"],
      "credential.destroy": ["Version destroyed", "{who} destroyed version {version} of the {provider} credential"],
    },
    Checks: {
      "credential.verify": ["Verified", "{provider} accepted the credential", "{provider} refused the credential"],
      "credential.report_failure": ["Failure reported", "{service} reported that {provider} refuses the credential"],
      "integrity.violation": ["Record not as it should be", "A stored record did not pass its check: it was not handed out"],
    },
    Organisation: {
      "org.freeze": ["Frozen", "{who} froze your organisation: nothing can be read"],
      "org.unfreeze": ["Freeze ended", "{who} ended the freeze of your organisation"],
      "org.shred": ["Keys destroyed", "{who} destroyed your organisation’s keys for ever"],
      "org.rotate_key": ["Key replaced", "{who} gave your organisation a new encryption key"],
    },
  },
  outcomes: {
    ok: "Done",
    refused: "Refused",
    record: "Damaged record",
    pointer: "Changed from outside",
    mapping: "Changed from outside",
    org_key: "Key does not fit",
    rollback: "Older than before",
  },
  details: { requestId: "Request id", version: "Version", service: "Service", at: "Time (UTC)", sequence: "Number" },
  filters: { provider: "Provider", action: "Kind of event", service: "Service", failed: "Only failures" },
  any: { provider: "All providers", action: "All kinds", service: "All services" },
  clear: "Clear filters",
  nothingYet: "Nothing has happened yet. What becomes of a credential is told here. ",
  toIntegrations: "Connect a provider",
  noMatch: "No event matches these filters.",
  unavailable: "The history cannot be shown now.",
  shown: (count, all) => (all ? events(count) : `The newest ${events(count)}`),
  added: (count, all) => `${events(count)} more, ${all} in all`,
  showNew: (count, more) => `Show ${count}${more ? " or more" : ""} new ${count === 1 ? "event" : "events"}`,
  refreshed: "The activity is up to date.",
  period: "Period",
  days: (days) => `${days} days`,
  counted: (days) => `Reads of the last ${days} days`,
  countedSince: (since) => `Only reads since ${since} are counted: more happened than can be looked through.`,
  noReads: "No service has read a credential in this time.",
  accessColumns: ["Service", "Provider", "Reads", "Last read"],
  asTable: (since) => `Since ${since}, as a table`,
  neverDue: "Nothing to replace",
  notConnected: "Not connected",
  overdue: "Overdue",
  noFailures: "No provider has refused a credential.",
  allFailures: "Show all in the history",
};
