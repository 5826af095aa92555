"""A report in a real browser: nothing wider than the window, nothing asked of the network, nothing in the console; of the page
of a study also that its table sorts and that its points say what they are under the keyboard.

usage: check.py --report FILE --out FOLDER [--browser PATH]
`cargo xtask e2e report RUN` makes the report of RUN first. The browser is Chromium or Chrome, by default the one on the
PATH. Pictures of the whole page (360 and 1400 pixels, light and dark) and a printed PDF go to FOLDER, to be looked at.
"""

import argparse
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from checks import conclude, report  # noqa: E402

# Elements that stick out of the window to the right although no scrolling box holds them.
OUTSIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
  if (e.closest('.scroll') && !e.classList.contains('scroll')) return false;
  return e.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).map(e => e.tagName + '.' + (e.getAttribute('class') || ''))"""

# The keys of a column of the table of all trials, from top to bottom.
KEYS = """column => [...document.querySelectorAll('table.sortable tbody tr')].map(r => {
  const key = r.cells[column].dataset.key;
  return key === undefined ? r.cells[column].textContent : key;
})"""


def numbers(keys):
    """As the table sorts them: what is no number comes last, in whichever direction."""
    return [float(key) for key in keys if key not in ("", "NaN")]


def sorts(page):
    heads = page.locator("table.sortable thead th")
    for column in range(heads.count()):
        button = heads.nth(column).locator("button")
        if "num" not in (heads.nth(column).get_attribute("class") or ""):
            continue
        button.click()
        try:
            rising = numbers(page.evaluate(KEYS, column))
            button.click()
            falling = numbers(page.evaluate(KEYS, column))
        except ValueError:
            continue  # Numbers and words in one column, as choices may be.
        if rising != sorted(rising) or falling != sorted(rising, reverse=True):
            return f"column {heads.nth(column).inner_text()!r} does not sort: {rising[:5]}, {falling[:5]}"
    return ""


def says(page):
    for mark in page.locator("#front [tabindex]").all():
        mark.focus()
        tip = page.locator("#tip")
        if not tip.is_visible() or not tip.inner_text().startswith("Trial "):
            return "a point says nothing under the keyboard"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    args = parser.parse_args()
    if not args.browser:
        sys.exit("no chromium or google-chrome on the PATH; install one or name it with --browser")
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.browser, args=["--no-sandbox"])
        for width in (360, 1400):
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                asked, said = [], []
                page.on("request", lambda request: asked.append(request.url))
                page.on("console", lambda message: said.append(message.text))
                page.on("pageerror", lambda error: said.append(str(error)))
                page.goto(args.report.resolve().as_uri())
                outside = page.evaluate(OUTSIDE)
                scroll = page.evaluate("document.documentElement.scrollWidth")
                name = f"{width} {scheme}"
                report(name, scroll <= width and not outside, f"{scroll} pixels wide; outside: {outside[:5]}")
                report(name, len(asked) == 1 and not said, f"{len(asked)} request, console: {said[:3]}")
                if page.locator("table.sortable").count():
                    wrong = [problem for problem in (sorts(page), says(page)) if problem]
                    report(name, not wrong, "; ".join(wrong) or "the table sorts, points say what they are")
                    page.reload()
                    asked.pop()
                page.screenshot(path=args.out / f"{width}-{scheme}.png", full_page=True)
                if (width, scheme) == (1400, "dark"):
                    page.pdf(path=args.out / "print.pdf", format="A4", margin={side: "14mm" for side in ("top", "bottom", "left", "right")})
                page.close()
        browser.close()
    print(f"pictures in {args.out}")
    conclude()


main()
