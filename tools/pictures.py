"""``make pictures``: run ``make demo``, and take the picture of two people in README.md."""

import base64
import signal
import subprocess
import sys

import get_chromium
from playwright.sync_api import ViewportSize, expect, sync_playwright
from template import ROOT

PICTURE = ROOT / "docs" / "images" / "two-people.png"


def photograph_two_people(links: dict[str, str]) -> None:
    """Start a run as alice, and take a picture of her view and bob's, side by side."""
    with sync_playwright() as playwright:
        path, flags = get_chromium.find(), ["--headless", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        size = ViewportSize(width=760, height=860)
        alice, bob = (browser.new_page(viewport=size, locale="en-GB") for _ in range(2))
        alice.goto(links["alice"])
        alice.get_by_role("link", name="count").click()
        alice.get_by_role("textbox").fill("40")
        alice.get_by_role("button", name="Run").click()
        expect(alice.get_by_role("log")).to_contain_text("1 of 40", timeout=60_000)
        bob.goto(links["bob"])
        bob.get_by_role("link", name="Runs").click()
        bob.get_by_role("listitem").get_by_role("link").first.click()
        for page in (alice, bob):
            expect(page.get_by_role("log")).to_contain_text("16 of 40", timeout=60_000)
        shots = [base64.b64encode(page.screenshot()).decode() for page in (alice, bob)]
        both = browser.new_page(viewport=ViewportSize(width=1536, height=860))
        both.set_content(
            "<body style='margin:0;display:flex;gap:16px;background:#8886a0'>"
            + "".join(f"<img src='data:image/png;base64,{shot}'>" for shot in shots)
        )
        both.screenshot(path=PICTURE)
        browser.close()


def main() -> int:
    """Start the demo, take the picture, and stop the demo."""
    links = {}
    command = [sys.executable, str(ROOT / "tools" / "demo.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout or ():
            if "/sign-in/" in line:
                name, link, *_ = line.split()
                links[name] = link
            if line.startswith("Press Ctrl-C"):
                break
        photograph_two_people(links)
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
