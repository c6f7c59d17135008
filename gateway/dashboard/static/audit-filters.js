// Which events the history shows. In: `show(filters)`, `offer(services)`. Out: the event `filters-changed`.

import { nameOf } from "./audit-table.js";
import { button, element } from "./element.js";
import { activity as text } from "./activity-text.js";
import { providers } from "./text.js";

class AuditFilters extends HTMLElement {
  #selects = {
    provider: Object.keys(providers).map((name) => option(name)),
    action: Object.entries(text.kinds).map(([label, kinds]) => element("optgroup", { label }, ...Object.entries(kinds).map(([value, [words]]) => option(value, words)))),
    service: Object.keys(text.services).map((name) => option(name)),
  };
  #failed = element("input", { type: "checkbox", name: "failed", value: "true" });
  #clear = button(text.clear, { class: "button plain", "data-action": "clear" });

  connectedCallback() {
    const form = element("form");
    for (const [name, options] of Object.entries(this.#selects)) {
      this.#selects[name] = element("select", { name }, option("", text.any[name]), ...options);
      form.append(element("label", {}, text.filters[name], this.#selects[name]));
    }
    form.append(element("label", { class: "tick" }, this.#failed, text.filters.failed), this.#clear);
    form.addEventListener("change", () => this.#choose(Object.fromEntries(new FormData(form))));
    this.#clear.addEventListener("click", () => {
      // The button is about to go.
      this.#selects.provider.focus();
      this.#choose({});
    });
    this.replaceChildren(form);
    this.show({});
  }

  /** Show these filters as chosen. */
  show(filters) {
    for (const [name, select] of Object.entries(this.#selects)) {
      offer(select, filters[name] ?? "");
      select.value = filters[name] ?? "";
    }
    this.#failed.checked = filters.failed;
    this.#clear.hidden = !Object.values(filters).some(Boolean);
  }

  /** Offer these services too. */
  offer(services) {
    for (const name of services) offer(this.#selects.service, name);
  }

  #choose(filters) {
    this.show(filters);
    this.dispatchEvent(new CustomEvent("filters-changed", { bubbles: true, detail: filters }));
  }
}

function offer(select, value) {
  if (![...select.options].some((known) => known.value === value)) select.append(option(value));
}

function option(value, words = nameOf(value)) {
  return element("option", { value }, words);
}

customElements.define("audit-filters", AuditFilters);
