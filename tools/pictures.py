"""``make pictures``: run ``make demo`` and make the pictures of README.md from what it shows.

docs/images/demo.svg is what the terminal shows, when it does, and the answers to three of the lines
that are printed; credentials are shortened, and pauses. docs/images/page-run.png is a run.
"""

import io
import re
import signal
import subprocess
import sys
import time

import get_chromium
from playwright.sync_api import expect, sync_playwright
from rich.console import Console
from rich.text import Text
from template import ROOT

IMAGES = ROOT / "docs" / "images"
WIDTH = 112
LONGEST_PAUSE = 0.7  # seconds
SHORTER = {
    re.escape(str(ROOT)): "~/cookiecutter-flyte-app",
    r"-[\w-]{32}\b": "-…",
    r"secret=[\w-]{32}": "secret=…",
    r"local-flyte-\w+": "local-flyte",
}
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # of another site
APPEAR = "@keyframes appear { from { visibility: hidden } }"


class Recording:
    """What was printed, and when."""

    def __init__(self) -> None:
        self.console = Console(record=True, width=WIDTH, file=io.StringIO())
        self.rules = [APPEAR]
        self.now, self.before = 0.0, time.monotonic()

    def show(self, text: str, style: str = "") -> None:
        """Add a text that has come just now."""
        self.now += min(time.monotonic() - self.before, LONGEST_PAUSE)
        self.before = time.monotonic()
        for pattern, short in SHORTER.items():
            text = re.sub(pattern, short, text)
        for line in Text(text.rstrip(), style).wrap(self.console, WIDTH):
            self.console.print(line)
            row = f'[clip-path$="-{len(self.rules) - 1})"]'
            self.rules.append(f"{row} {{ animation: appear 0s {self.now:.1f}s both }}")

    def svg(self) -> str:
        """Draw it, line after line."""
        drawn = self.console.export_svg(title="make demo", unique_id="demo")
        return FONTS.sub("", drawn).replace("</style>", "\n".join([*self.rules, "</style>"]))


def photograph_a_run(link: str) -> None:
    """Follow a sign-in link, and take the picture of a run that goes on."""
    with sync_playwright() as playwright:
        path, flags = get_chromium.find(), ["--headless", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 860}, locale="en-GB")
        page.goto(link)
        page.get_by_role("link", name="count").click()
        page.get_by_role("textbox").fill("40")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("log")).to_contain_text("24 of 40", timeout=60_000)
        page.screenshot(path=IMAGES / "page-run.png")
        browser.close()


def main() -> int:
    """Make them."""
    recording, printed = Recording(), []
    recording.show("$ make demo", "bold")
    command = [sys.executable, str(ROOT / "tools" / "demo.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout or ():
            recording.show(line)
            printed.append(line.strip())
            if line.startswith("Press Ctrl-C"):
                break
        me, _, _, start, _, refused = (line for line in printed if line.startswith("curl"))
        for curl in (me, start, refused):
            recording.show(f"\n$ {curl}", "bold")
            words = ["sh", "-c", f"{curl} --silent --noproxy '*'"]
            recording.show(
                subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            )
        photograph_a_run(next(line.split()[1] for line in printed if line.startswith("alice")))
        demo.send_signal(signal.SIGINT)
        recording.show(f"\n^C{demo.communicate()[0]}")
    (IMAGES / "demo.svg").write_text(recording.svg(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
