// What the providers' forms ask for: the provider service says it, and it is asked once.

import * as api from "./api.js";

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
