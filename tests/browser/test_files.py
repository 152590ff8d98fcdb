"""Files that a person gives to a task on the page."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from local_flyte import LocalFlyte
from local_flyte.testing import wait_until
from passthrough.limits import Limits

from ..served import TASKS
from .test_looks import SCREENSHOTS
from .visiting import Visitors

ROW = b"Berlin,Spree,3677472\n"
LINES = 1_000_000  # 21 MB


@pytest.fixture
def rivers(tmp_path: Path) -> Path:
    """A table of 21 MB."""
    file = tmp_path / "rivers 2026.csv"
    file.write_bytes(ROW * LINES)
    return file


def drop(page: Page, file: Path, target: str) -> None:
    """Drop a file of the machine on an element, as a person does with the mouse."""
    box = page.locator(target).last.bounding_box()
    assert box
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": step, "data": data, **place})


def test_a_file_of_20_mb_is_chosen_or_dropped_and_its_task_counts_the_lines(
    visit: Visitors, rivers: Path
) -> None:
    visitor = visit("alice")
    page = visitor.go(f"tasks/{TASKS}.count_lines")
    text = page.get_by_label("text URI, required")
    pickers = page.locator("[type=file]")
    expect(pickers.first).to_be_visible()
    drop(page, rivers, "[type=file]")
    expect(page.get_by_text("Uploaded.")).to_have_count(1)
    pickers.first.set_input_files(rivers)
    expect(page.get_by_text("Uploaded.")).to_have_count(2)
    expect(text).to_have_value(re.compile("/rivers_2026.csv$"))
    page.screenshot(path=SCREENSHOTS / "files.png")
    page.get_by_role("button", name="Run").click()
    outputs = page.get_by_role("region", name="Outputs")
    expect(outputs).to_contain_text(str(LINES))
    expect(outputs).to_contain_text("csv")
    expect(outputs).to_contain_text("/rivers_2026.csv")


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    visit: Visitors, tmp_path: Path
) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.count_lines")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    with (large := tmp_path / "large.csv").open("wb") as file:
        file.truncate(Limits().file_bytes + 1)
    picker = page.locator("[type=file]").last
    picker.set_input_files(large)
    text = page.get_by_label("text URI, required")
    expect(text).to_have_accessible_description(re.compile("A file may have up to 100 MB"))
    expect(picker).to_have_value("")
    assert not [url for url in sent if "/files" in url]


def test_a_file_of_json_is_not_read_as_json(visit: Visitors, tmp_path: Path) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.count_lines")
    (odd := tmp_path / "odd.json").write_text("[" + "1e400," * 20_000)
    page.locator("[type=file]").last.set_input_files(odd)
    expect(page.get_by_label("text URI, required")).to_have_value(re.compile("/odd.json$"))


def test_what_flyte_refuses_is_shown_at_the_file(visit: Visitors, tmp_path: Path) -> None:
    page = visit("victor").go(f"tasks/{TASKS}.count_lines")
    (small := tmp_path / "small.csv").write_bytes(ROW)
    page.locator("[type=file]").last.set_input_files(small)
    text = page.get_by_label("text URI, required")
    refused = re.compile("The file was not uploaded: .*victor")
    expect(text).to_have_accessible_description(refused)
    page.get_by_role("button", name="Run").click()
    expect(text).to_have_accessible_description(re.compile("A value is required"))


def test_an_upload_that_goes_on_holds_the_run_back_and_a_typed_uri_ends_it(
    visit: Visitors, flyte: LocalFlyte, tmp_path: Path
) -> None:
    page = visit("alice").go(f"tasks/{TASKS}.count_lines")
    (small := tmp_path / "small.csv").write_bytes(ROW)
    text = page.get_by_label("text URI, required")
    with flyte.hang("CreateUploadLocation"):
        page.locator("[type=file]").last.set_input_files(small)
        expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
        page.get_by_role("button", name="Run").click()
        uploading = re.compile("The file is still being uploaded")
        expect(text).to_have_accessible_description(uploading)
        text.fill("s3://bucket/other.csv")
        expect(page.get_by_role("progressbar", name="Upload")).to_be_hidden()
        wait_until(lambda: not flyte.open_calls("CreateUploadLocation"))
    expect(text).to_have_value("s3://bucket/other.csv")
    expect(text).not_to_have_attribute("aria-invalid", "true")
