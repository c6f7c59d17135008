// A field for a phone number. What is typed stays as it is while it is typed; beside it stands what will be used.

import { element } from "./element.js";
import { FormField } from "./form-field.js";
import { callingCode, countryOf, homeCountry, toE164 } from "./phone-number.js";
import { dialog as words } from "./text.js";

const names = new Intl.DisplayNames("en", { type: "region" });
const nameOf = (country) => (country ? names.of(country) : "");

export class PhoneField extends FormField {
  #home = homeCountry();
  #used = element("span", { "data-used": this.rule.name });

  constructor(rule) {
    super(rule);
    this.input.type = "tel";
    this.help.firstChild.after(" ", this.#used);
    this.input.addEventListener("input", () => this.#show());
    this.input.addEventListener("change", () => {
      // Only now, when nobody is at it: the cursor would jump.
      if (this.#number) this.input.value = this.#number;
      this.#show();
    });
    this.#show();
  }

  get value() {
    return this.#number || super.value;
  }

  get #number() {
    return toE164(this.input.value, this.#home);
  }

  #show() {
    const hint = this.#home ? words.numberOf(nameOf(this.#home), callingCode(this.#home)) : words.numberWhole;
    this.#used.classList.toggle("used", Boolean(this.#number));
    this.#used.textContent = this.#number ? words.usedAs(this.#number, nameOf(countryOf(this.#number))) : hint;
  }
}
