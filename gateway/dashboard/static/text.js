// Every sentence of the dashboard, in one place.

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
  connecting: "Setup unfinished",
  connected: "Connected",
  refused: "Needs attention",
  disconnected: "Disconnected",
  unavailable: "Not available",
  unknown: "Unknown",
};

export const actions = {
  connect: "Connect",
  finish: "Finish setup",
  configure: "Configure",
  verify: "Test connection",
  disconnect: "Disconnect",
  reconnect: "Reconnect",
  replace: "Use another credential",
};

export const busy = {
  verify: "Testing…",
  reconnect: "Reconnecting…",
  disconnect: "Disconnecting…",
};

export const card = {
  hint: "Credential",
  phoneNumber: "Phone number",
  inboundAssistantId: "Inbound assistant",
  outboundAssistantId: "Outbound assistant",
  lastVerified: "Last verified",
  account: "Account",
  unavailable: "The operator of this installation has not set this integration up.",
  unfinished: "A setup was begun and did not finish. Nothing is in use yet: finish it to go on.",
  disconnected: "The credential is kept encrypted. Nobody can read it until you reconnect.",
  consentOver: "The consent is over. Connect it again to use it.",
  refusedNext: "Enter a new credential, or mend it at the provider and test again.",
  actionFor: (action, name) => `${action}: ${name}`,
};

export const page = {
  summary: (connected, all) => `${connected} of ${all} connected`,
  refreshed: "The integrations are up to date.",
  retry: "Try again",
  signInAgain: "Sign in again",
  sessionEnded: "Your session has ended.",
  verified: (name) => `${name} accepts the credential.`,
  refused: (name) => `${name} refuses the credential.`,
  disconnected: (name) => `${name} is disconnected.`,
  reconnected: (name) => `${name} is connected again.`,
  connected: (name) => `${name} is connected.`,
};

export const dialog = {
  close: "Close",
  cancel: "Cancel",
  done: "Done",
  connectTitle: (name) => `Connect ${name}`,
  configureTitle: (name) => `Configure ${name}`,
  submit: "Test and connect",
  consent: "Connect with Google",
  console: (name) => `Where to find this at ${name}`,
  advanced: "More settings",
  missing: (label) => `Enter this: ${label}.`,
  mend: (hint) => `This does not look right. ${hint}`,
  sending: "Testing with the provider…",
  replaces: "The new credential takes the place of the present one, once the provider has accepted it.",
  optional: "optional",
  reveal: (label) => `Show ${label}`,
  conceal: (label) => `Hide ${label}`,
  emptied: "Emptied for your safety: enter it again.",
  connectedTitle: (name) => `${name} is connected`,
  warnings: "Good to know",
  requestId: (id) => `Request id: ${id}`,
  disconnectTitle: (name) => `Disconnect ${name}?`,
  disconnectLead: "What stops working at once:",
  disconnectLater: "You can reconnect at any time without entering the credential again.",
  confirm: "Disconnect",
};

export const results = {
  inboundAssistantId: "Inbound assistant",
  outboundAssistantId: "Outbound assistant",
  phoneNumber: "Phone number",
  account: "Account",
};

export const consent = {
  working: "Connecting your calendars…",
  connected: (email) => (email ? `Google Calendar is connected: ${email}` : "Google Calendar is connected"),
  failed: "Google Calendar was not connected",
  nothing: "This page is where Google sends you back to. Begin at the integrations.",
};

export const problems = {
  unreachable: "The server cannot be reached. Check your connection and try again.",
  unexpected: "The server gave an unexpected answer. Try again in a moment.",
};
