"""``make pictures``: run ``make demo``, and take the screenshot that README.md shows."""

import base64
import signal
import subprocess
import sys

import get_chromium
from playwright.sync_api import ViewportSize, expect, sync_playwright
from template import ROOT

PICTURE = ROOT / "docs" / "images" / "two-people.png"


def photograph_two_people(links: dict[str, str]) -> None:
    """Take screenshots: bob answers a condition of alice's run, and alice sees the answer."""
    with sync_playwright() as playwright:
        path, flags = get_chromium.find(), ["--headless", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        size = ViewportSize(width=760, height=808)
        alice, bob = (browser.new_page(viewport=size, locale="en-GB") for _ in range(2))
        bob.goto(links["bob"])  # bob must start a run, so that Flyte knows bob's name
        bob.get_by_role("link", name="greet").click()
        bob.get_by_role("textbox").fill("Bob")
        bob.get_by_role("button", name="Run", exact=True).click()
        expect(bob.get_by_text("Hello, Bob.")).to_be_visible(timeout=60_000)
        alice.goto(links["alice"])
        alice.get_by_role("link", name="publish").click()
        alice.get_by_role("textbox").fill("Results of May")
        alice.get_by_role("button", name="Run", exact=True).click()
        expect(alice.get_by_role("button", name="Yes")).to_be_visible(timeout=60_000)
        bob.goto(links["bob"])
        bob.get_by_role("link", name="Runs 1").click()
        bob.get_by_role("checkbox", name="Everyone").check()
        yes = bob.get_by_role("button", name="Yes")
        yes.hover(timeout=60_000)
        expect(bob.get_by_text("Alice Adams").first).to_be_visible()
        shots = [bob.screenshot()]
        yes.click()
        expect(alice.get_by_text("published: Results")).to_be_visible(timeout=60_000)
        expect(alice.get_by_text("Bob Brown bob-subject answered: Yes").last).to_be_visible()
        shots.append(alice.screenshot())
        both = browser.new_page(viewport=ViewportSize(width=1536, height=size["height"]))
        both.set_content(
            "<body style='margin:0;display:flex;gap:16px;background:#8886a0'>"
            + "".join(
                f"<img src='data:image/png;base64,{base64.b64encode(shot).decode()}'>"
                for shot in shots
            )
        )
        both.screenshot(path=PICTURE)
        browser.close()


def main() -> int:
    """Start the demo, take the screenshots, and stop the demo."""
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
