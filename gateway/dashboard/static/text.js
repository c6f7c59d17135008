// Every sentence of the dashboard, in one place.

export const providers = {
  vapi: {
    name: "Vapi",
    description: "Voice assistants that answer and place your calls.",
    stops: [
      "Your services can no longer start calls with Vapi.",
      "Webhooks of your assistants are no longer accepted.",
    ],
    stays: "Both assistants stay in your Vapi account.",
  },
  twilio: {
    name: "Twilio",
    description: "Phone numbers, calls and messages on your own account.",
    stops: [
      "Your services can no longer call or send messages from this number.",
      "Webhooks from Twilio are no longer accepted.",
    ],
    stays: "The number stays yours at Twilio.",
  },
  googleCalendar: { name: "Google Calendar", description: "Free times and bookings in your team’s calendars." },
  resend: { name: "Resend", description: "E-mail from your own domain." },
  elevenlabs: { name: "ElevenLabs", description: "Natural voices for your assistants." },
};

export const states = {
  loading: "Loading",
  empty: "Not connected",
  connecting: "Setup unfinished",
  connected: "Connected",
  refused: "Needs attention",
  disconnected: "Disconnected",
  unavailable: "Planned",
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
  unavailable: "This integration cannot be connected yet.",
  unfinished: "A setup was begun and did not finish. Nothing is in use yet: finish it to go on.",
  disconnected: "The credential is kept encrypted. Nobody can read it until you reconnect.",
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
  sending: "Testing with the provider…",
  whatHappens: {
    vapi: "We test the key, store it encrypted, and set up one inbound and one outbound assistant in your Vapi account.",
    twilio: "We test the credential, check that the number belongs to your account, and store everything encrypted.",
  },
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

export const fields = {
  apiKey: {
    label: "API key",
    missing: "Enter the private API key.",
    help: "The private key, from API Keys in the Vapi dashboard. At least 20 characters.",
    mend: "The key has at least 20 characters: copy the whole of it.",
  },
  webhookSecret: {
    label: "Webhook secret",
    help: "What Vapi sends along with its webhooks. Leave it empty and we make a strong one.",
    mend: "The webhook secret has at least 8 characters.",
  },
  region: { label: "Region", help: "Where your Vapi organisation lives." },
  accountSid: {
    label: "Account SID",
    missing: "Enter the Account SID.",
    help: "On the first page of the Twilio console; it begins with AC.",
    mend: "An Account SID is AC followed by 32 digits and letters a to f.",
  },
  method: { label: "Sign in to Twilio with", token: "Auth Token", key: "API key" },
  authToken: {
    label: "Auth Token",
    missing: "Enter the Auth Token.",
    help: "Below the Account SID in the Twilio console.",
    mend: "The Auth Token is longer than that: copy the whole of it.",
  },
  apiKeySid: {
    label: "API key SID",
    missing: "Enter the SID of the API key.",
    help: "Begins with SK. Without the Auth Token, webhooks from Twilio cannot be verified.",
    mend: "An API key SID is SK followed by 32 digits and letters a to f.",
  },
  apiKeySecret: {
    label: "API key secret",
    missing: "Enter the secret of the API key.",
    help: "Shown once by Twilio, when the key was made.",
    mend: "The secret is longer than that: copy the whole of it.",
  },
  phoneNumber: {
    label: "Phone number",
    missing: "Enter the phone number.",
    help: "A number of this account, with + and country code.",
    mend: "Enter the number with + and its country code, e.g. +14155550100.",
  },
  whatsappNumber: {
    label: "WhatsApp number",
    help: "If you send WhatsApp messages from another number.",
    mend: "Enter the number with + and its country code, e.g. +14155550100.",
  },
  inboundAssistantId: { label: "Inbound assistant" },
  outboundAssistantId: { label: "Outbound assistant" },
};

export const regions = { us: "United States", eu: "European Union" };

export const problems = {
  unreachable: "The server cannot be reached. Check your connection and try again.",
  unexpected: "The server gave an unexpected answer. Try again in a moment.",
};
