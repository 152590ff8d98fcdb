"""The SDK's names: all that are used are checked at the start."""

import re
import sys

import flyte
import pytest
from template import ROOT

from passthrough.calls import make_safe, sdk
from passthrough.calls.sdk import SDK_NAMES, StartError

from ...baking import PROJECT, run


@pytest.mark.weekly  # or it would fail for everybody's change on the day that flyte is released
def test_every_public_sdk_name_is_reviewed() -> None:
    """A new name works as documented, or the page states the difference, or the app refuses it."""
    run([sys.executable, "tools/flyte_names.py"], ROOT)


@pytest.mark.parametrize(
    ("table", "name", "parameters"),
    [
        ("SDK_NAMES", "flyte.remote:Action.wait", "quiet wait_long"),
        ("REFUSED", "flyte.remote:Action.rest", ""),
    ],
)
def test_app_refuses_sdk_without_required_name(
    monkeypatch: pytest.MonkeyPatch, table: str, name: str, parameters: str
) -> None:
    """A missing parameter of a function is refused, too."""
    for module, names in ((sdk, "SDK_NAMES"), (make_safe, "REFUSED")):
        monkeypatch.setattr(module, names, {name: parameters} if names == table else {})
    with pytest.raises(StartError, match=re.escape(f" for many callers: {name} ")) as raised:
        make_safe.make_safe.__wrapped__()
    assert f"flyte {flyte.__version__} cannot be made safe" in str(raised.value)
    assert "Pin flyte>=2.12,<2.13 in pyproject.toml" in str(raised.value)


def test_used_sdk_names_are_checked_at_start() -> None:
    used = set[str]()
    for file in (ROOT / PROJECT / "passthrough").rglob("*.py"):
        used |= {*re.findall(r'sdk_object\("(flyte[^"]+)"\)', text := file.read_text("utf-8"))}
        assert file.name == "passthrough_auth.py" or not re.search(
            r"^(from|import) flyte\S*\._", text, re.M
        )
    unchecked = [name for name in used if not any(listed.startswith(name) for listed in SDK_NAMES)]
    assert len(used) > 10
    assert unchecked == []
