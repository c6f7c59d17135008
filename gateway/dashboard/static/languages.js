// The languages of a browser. There are browsers whose first one is no language tag, such as en-US@posix.

/** These languages as Intl takes them, without those that it does not know how to read. */
export const locales = (languages = navigator.languages) =>
  languages.flatMap((language) => {
    try {
      return new Intl.Locale(language);
    } catch {
      return [];
    }
  });
