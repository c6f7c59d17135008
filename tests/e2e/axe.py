"""What axe-core says of a page: https://github.com/dequelabs/axe-core/blob/develop/doc/API.md."""

from importlib.resources import files

from playwright.async_api import Page

SCRIPT = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
"""The whole of axe-core, for a page's main world: what a debugger brings is not held back by the page's policy."""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""WCAG 2.2 AA, and what axe recommends beyond."""

LOOKS = ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable"]
"""The rules of these that colours or the width of the screen can break."""

# The rows of a long table are all made alike.
_RUN = """
async ([tags, rules]) => {
  const where = {exclude: [["audit-table tbody tr:nth-child(n + 10)"]]};
  const values = rules ?? tags;
  const runOnly = {type: rules ? "rule" : "tag", values};
  let {violations, incomplete} = await axe.run(where, {runOnly, resultTypes: ["violations", "incomplete"]});
  const contrast = (found) => found.filter(({id}) => id === "color-contrast");
  // Axe looks through an open dialog at the page behind it, and cannot tell the colour there, nor below a tip.
  if (contrast(incomplete).length) {
    const dialog = document.querySelector("dialog[open]");
    const behind = dialog ? [...document.body.children].filter((each) => !each.contains(dialog)) : [];
    const hidden = [...behind, ...document.querySelectorAll("[role=tooltip]")];
    for (const each of hidden) each.style.visibility = "hidden";
    ({incomplete} = await axe.run(where, {runOnly: ["color-contrast"], resultTypes: ["incomplete"]}));
    for (const each of hidden) each.style.visibility = "";
  }
  return [...violations, ...contrast(incomplete)].flatMap(({id, nodes}) => nodes.map(({html, any, all, none}) =>
    `${id}: ${html.slice(0, 150)}: ${[...any, ...all, ...none].map(({message}) => message).join(" ")}`));
}
"""


async def faults(page: Page, *, looks_only: bool = False) -> list[str]:
    """What breaks a rule, and where a contrast could not be told. `looks_only` asks for the rules of LOOKS alone."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(SCRIPT)
    found: list[str] = await page.evaluate(_RUN, [RULES, LOOKS if looks_only else None])
    return found
