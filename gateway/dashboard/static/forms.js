// What the providers' forms ask for: the provider service says it, and it is asked once.

import * as api from "./api.js";
import { FormField } from "./form-field.js";
import { PhoneField } from "./phone-field.js";
import { SecretField } from "./secret-field.js";

let asked = null;

/** The provider's description; a Problem when it cannot be had. */
export async function describe(provider) {
  asked ??= api.providers();
  try {
    return (await asked).find((description) => description.provider === provider);
  } catch (error) {
    asked = null;
    throw error;
  }
}

/** The field that a rule of a description asks for. */
export function fieldFor(rule) {
  if (rule.secret) return new SecretField(rule);
  return rule.phoneNumber ? new PhoneField(rule) : new FormField(rule);
}
