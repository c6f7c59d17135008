// Every sentence of the dashboard; those of the activity page alone are in activity-text.js.

export const providers = {
  vapi: {
    name: "Vapi",
    description: "Voice assistants that answer and place your calls.",
    stops: [
      "Your services can no longer start calls with Vapi.",
      "Webhooks of your assistants are no longer accepted.",
    ],
    stays: "What we set up in your Vapi account is taken away, and made again when you reconnect.",
  },
  twilio: {
    name: "Twilio",
    description: "Phone numbers, calls and messages on your own account.",
    stops: [
      "Your services can no longer call or send messages from this number.",
      "Webhooks from Twilio are no longer accepted.",
    ],
    stays: "The number stays yours at Twilio, and its webhooks become what they were.",
    rotates: [
      "Twilio issues a new Auth Token, and a secondary token that is there now is removed.",
      "Within a day the present Auth Token stops working everywhere, also in your other systems.",
    ],
  },
  googleCalendar: {
    name: "Google Calendar",
    description: "Free times and bookings in your team’s calendars.",
    stops: ["Your services can no longer see or book times in these calendars."],
    stays: "Your consent ends at Google, for every organisation that uses this account. Your calendars stay as they are.",
    later: "You can connect it again at any time, by consenting again.",
  },
  resend: {
    name: "Resend",
    description: "E-mail from your own domain.",
    stops: ["Your services can no longer send e-mail with this account.", "Webhooks from Resend are no longer accepted."],
    stays: "Your domains stay as they are at Resend.",
    rotates: ["Resend issues a new API key.", "Within a day the present key is deleted, if it was made here; else we ask you to delete it."],
  },
  elevenlabs: {
    name: "ElevenLabs",
    description: "Natural voices for your assistants.",
    stops: ["Your services can no longer speak with these voices.", "Webhooks from ElevenLabs are no longer accepted."],
    stays: "Your voices stay as they are at ElevenLabs.",
  },
};

export const states = {
  loading: "Loading",
  empty: "Not connected",
  configuring: "Setup unfinished",
  connected: "Connected",
  limited: "Limited",
  "rotation-due": "Replacement due",
  error: "Needs attention",
  disconnected: "Disconnected",
  unavailable: "Not available",
  unknown: "Unknown",
};

export const actions = {
  connect: "Connect",
  finish: "Finish setup",
  configure: "Configure",
  reconfigure: "Reconfigure",
  renew: "Replace the credential",
  verify: "Test connection",
  rotate: "Rotate now",
  disconnect: "Disconnect",
  reconnect: "Reconnect",
};

export const busy = {
  verify: "Testing…",
  reconnect: "Reconnecting…",
  disconnect: "Disconnecting…",
  rotate: "Rotating…",
};

export const card = {
  hint: "Credential",
  phoneNumber: "Phone number",
  inboundAssistantId: "Inbound assistant",
  outboundAssistantId: "Outbound assistant",
  lastVerified: "Last verified",
  account: "Account",
  sending: "Setting up…",
  unavailable: "The operator of this installation has not set this integration up.",
  unknown: "Its state could not be loaded yet. Whatever is connected goes on working.",
  unfinished: "A setup was begun and has not ended. Nothing of it is in use yet: finish it to go on.",
  disconnected: "The credential is kept encrypted. Nobody can read it until you reconnect.",
  consentOver: "The consent is over. Connect it again to use it.",
  limits: "It works, within these limits:",
  due: (day, when) => `Replace this credential by ${day} (${when}).`,
  overdue: (day) => `This credential should have been replaced by ${day}.`,
  renew: (name) => `Make a new one at ${name} and enter it here. Everything goes on working meanwhile.`,
  console: (name) => `Open ${name}`,
  actionFor: (action, name) => `${action}: ${name}`,
};

// What to do about a verdict, by its reason.
export const nextSteps = {
  INVALID_CREDENTIALS: (name) => `Copy it from ${name} again, or make a new one there, and reconfigure.`,
  WRONG_CREDENTIAL_TYPE: (name) => `Get one of the right kind at ${name}, and reconfigure.`,
  INSUFFICIENT_SCOPE: (name) => `Have it allowed at ${name} and test again, or reconfigure.`,
  ACCOUNT_SUSPENDED: (name) => `Settle this with ${name}, then test the connection again.`,
  QUOTA_EXCEEDED: (name) => `Look at your plan at ${name}, then test the connection again.`,
  PROVIDER_RESOURCE_MISSING: (name) => `Put it back in place at ${name} and test again, or reconfigure.`,
  REAUTH_REQUIRED: (name) => `Reconfigure, and give your consent at ${name} once more.`,
  PROVIDER_MISCONFIGURED: () => "Only the operator of this installation can mend this. Tell them.",
  other: (name) => `Mend it at ${name} and test again, or reconfigure.`,
};

export const confirmations = {
  disconnect: {
    title: (name) => `Disconnect ${name}?`,
    lead: "What stops working at once:",
    points: ({ stops }) => stops,
    after: ({ stays, later = "You can reconnect at any time without entering the credential again." }) => `${stays} ${later}`,
    yes: "Disconnect",
  },
  rotate: {
    title: (name) => `Rotate the ${name} credential now?`,
    lead: "What happens:",
    points: ({ rotates }, name) => rotates ?? [`${name} issues a new credential, and the present one is ended there.`],
    after: () => "Your services get the new one by themselves, once it has been tested. A credential that was ended cannot be brought back.",
    yes: "Rotate now",
  },
};

export const page = {
  summary: (connected, all) => `${connected} of ${all} connected`,
  refreshed: "The integrations are up to date.",
  retry: "Try again",
  reload: "Reload the page",
  stale: (time) => `We keep trying. What you see was true at ${time}.`,
  healed: "Everything is up to date again.",
  signInAgain: "Sign in again",
  sessionEnded: "Your session has ended.",
  signingIn: "Signing in…",
  verified: (name) => `${name} accepts the credential.`,
  refused: (name) => `${name} refuses the credential.`,
  disconnected: (name) => `${name} is disconnected.`,
  reconnected: (name) => `${name} is connected again.`,
  connected: (name) => `${name} is connected.`,
  rotating: (name) => `The new credential of ${name} is on its way. Nothing stops meanwhile.`,
};

export const dialog = {
  close: "Close",
  cancel: "Cancel",
  done: "Done",
  connectTitle: (name) => `Connect ${name}`,
  configureTitle: (name) => `Configure ${name}`,
  submit: "Test and connect",
  test: "Test",
  testOnly: "Test without saving",
  consent: "Connect with Google",
  console: (name) => `Where to find this at ${name}`,
  consentConsole: "Apps with access to your Google account",
  newTab: "(opens in a new tab)",
  more: "Learn more",
  moreAbout: (label) => `Learn more about this: ${label}`,
  ways: "Connect with",
  advanced: "More settings",
  next: "What happens next:",
  asksFor: "What we ask Google for",
  neverAsksFor: "What we never ask for",
  missing: (label) => `Enter this: ${label}.`,
  mend: "This does not look right. Compare it with what is said below.",
  sending: "Testing with the provider, then connecting…",
  testing: "Testing with the provider. Nothing is saved…",
  slow: "Still working: the provider is slow.",
  accepted: (name, account) => `${name} accepts this${account ? ` (${account})` : ""}. Nothing is saved yet.`,
  refused: (name) => `${name} does not accept this. Nothing was saved.`,
  kept: "What you typed is still here, but for secrets. Sign in in another tab, then go on here.",
  goOn: "You are signed in again. Enter the secrets once more, and go on.",
  replaces: "The new credential takes the place of the present one, once the provider has accepted it.",
  optional: "optional",
  reveal: (label) => `Show ${label}`,
  conceal: (label) => `Hide ${label}`,
  emptied: "Emptied for your safety: enter it again.",
  makeUp: "Generate",
  madeUp: "Copy it now if you need it at the provider: once saved, it is never shown again.",
  copy: "Copy",
  copied: "Copied",
  selectedShort: "Selected",
  selected: "The clipboard is not allowed here. Copy what is selected with your keyboard or menu.",
  toolFor: (tool, label) => `${tool}: ${label}`,
  numberOf: (country, code) => `Without + it counts as one of this country: ${country} (+${code}).`,
  numberWhole: "Begin with + and the country code.",
  usedAs: (number, country) => `Will be used as ${number}${country ? ` (${country})` : ""}.`,
  connectedTitle: (name) => `${name} is connected`,
  works: "The provider accepted it, and it is in use now.",
  closing: "This closes by itself.",
  stay: "Stay open",
  warnings: "Good to know",
  requestId: (id) => `Request id: ${id}`,
};

export const results = {
  inboundAssistantId: "Inbound assistant",
  outboundAssistantId: "Outbound assistant",
  phoneNumber: "Phone number",
  account: "Account",
};

export const choices = {
  us: "United States",
  eu: "European Union",
  in: "India",
  sg: "Singapore",
  global: "Global",
  header: "Header X-Vapi-Secret",
  bearer: "Bearer token",
  HMAC_SHA256: "HMAC-SHA256",
  HMAC_SHA1: "HMAC-SHA1",
};

export const consent = {
  working: "Connecting your calendars…",
  connected: (email) => (email ? `Google Calendar is connected: ${email}` : "Google Calendar is connected"),
  failed: "Google Calendar was not connected",
  missing: "A permission is missing",
  denied: "You did not allow it",
  again: "Nothing was connected, and nothing of your account is kept.",
  retry: "Try again with Google",
  leaving: "Going to Google…",
  nothing: "This page is where Google sends you back to. Begin at the integrations.",
};

export const problems = {
  unreachable: "The server cannot be reached. Check your connection and try again.",
  brokenOff: "The answer broke off. It may have worked all the same: look before you try again.",
  tooSlow: "There was no answer for more than a minute. It may have worked all the same: look before you try again.",
  unexpected: "The server gave an unexpected answer. Try again in a moment.",
};
