// The languages of a browser.

/** These as Intl takes them, which throws at what is no language tag, such as en-US@posix. */
export const locales = (languages = navigator.languages) =>
  languages.flatMap((language) => {
    try {
      return new Intl.Locale(language);
    } catch {
      return [];
    }
  });
