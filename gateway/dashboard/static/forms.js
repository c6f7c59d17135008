// What the providers' forms ask for. `pattern` only catches slips early; the server decides.

import { regions } from "./text.js";

const secret = { secret: true, pattern: /^\S{8,256}$/ };
const phone = { type: "tel", inputmode: "tel", placeholder: "+14155550100", pattern: /^\+[1-9][\d\s().\/-]{1,24}$/ };

export const forms = {
  vapi: [
    { name: "apiKey", required: true, secret: true, pattern: /^(bearer\s+)?["'“‘]?\S{20,256}$/i },
    { name: "webhookSecret", ...secret },
    { name: "region", options: regions },
  ],
  twilio: [
    { name: "accountSid", required: true, placeholder: "AC…", pattern: /^["'“‘]?(AC[0-9a-fA-F]{32})["'”’]?$/ },
    { name: "method", choices: ["token", "key"] },
    { name: "authToken", required: true, ...secret, when: "token" },
    { name: "apiKeySid", required: true, placeholder: "SK…", pattern: /^["'“‘]?(SK[0-9a-fA-F]{32})["'”’]?$/, when: "key" },
    { name: "apiKeySecret", required: true, ...secret, when: "key" },
    { name: "phoneNumber", required: true, ...phone },
    { name: "whatsappNumber", ...phone },
  ],
};
