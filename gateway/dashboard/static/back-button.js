// The browser's back button closes what is open, instead of leaving the page.

export class BackButton {
  #wanted = false;
  #going = false;

  /** `close` is called when somebody goes back; it says whether it closed. */
  constructor(close) {
    window.addEventListener("popstate", ({ state }) => {
      if (this.#going) {
        this.#going = false;
        if (this.#wanted) this.#push();
      } else if (this.#wanted && !state?.opened) {
        this.#wanted = !close();
        if (this.#wanted) history.forward();
      }
    });
    // What was open when the page was left or loaded again is not open any more.
    if (history.state?.opened) this.#back();
  }

  /** Something is open. */
  arm() {
    this.#wanted = true;
    if (!this.#going) this.#push();
  }

  /** It was closed in another way. */
  disarm() {
    if (this.#wanted && !this.#going) this.#back();
    this.#wanted = false;
  }

  #push() {
    history.pushState({ opened: true }, "");
  }

  #back() {
    this.#going = true;
    history.back();
  }
}
