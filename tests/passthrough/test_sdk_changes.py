"""What is used of the SDK, and changed in it, is checked at start-up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import flyte
import pytest

import passthrough
from passthrough.calls import make_safe
from passthrough.calls.errors import StartError
from passthrough.calls.sdk import SDK_NAMES, is_there

TEMPLATE = Path(passthrough.__file__).parents[1]
CHANGED_UNCHECKED = """
import json, pkgutil, sys
from passthrough.calls import make_safe as sdk

def attributes():
    for name, module in [*sys.modules.items()]:
        if name.startswith("flyte."):
            kinds = [each for each in vars(module).values() if issubclass(type(each), type)]
            own = [each for each in kinds if each.__module__.startswith("flyte.")]
            for owner in (module, *own):
                yield from ((owner, *named) for named in vars(owner).items())

checked = set()
for name in (*sdk.SDK_NAMES, *sdk.REFUSED):
    module, _, path = name.partition(":")
    owner = pkgutil.resolve_name(module)
    for name in path.split("."):
        checked |= {(id(owner), name), (id(type(owner)), name)}
        owner = getattr(owner, name, None)
before = {(id(owner), name): value for owner, name, value in attributes()}
sdk.make_safe()
print(json.dumps([
    f"{owner.__name__}.{name}" for owner, name, value in attributes()
    if before.get((id(owner), name), value) is not value and (id(owner), name) not in checked
]))
"""


def python(code: str) -> Any:
    """Run code in a process of its own, in the template's folder, and return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=TEMPLATE,
        env={**os.environ, "PYTHONPATH": str(TEMPLATE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_app_does_not_start_if_flyte_lacks_one_of_the_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = make_safe.make_safe.__wrapped__
    for lost in (*SDK_NAMES, *make_safe.REFUSED):
        monkeypatch.setattr(make_safe, "is_there", lambda name, _, lost=lost: name != lost)
        with pytest.raises(StartError, match=re.escape(f" for many callers: {lost} ")) as raised:
            start()
        assert f"flyte {flyte.__version__} cannot be made safe" in str(raised.value)
        assert "Pin flyte>=2.12,<2.13 in pyproject.toml" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("flyte.remote:Action.wait", "quiet wait_for", True),
        ("flyte.remote:Action.wait", "quiet wait_long", False),
        ("flyte.remote:Action.rest", "", False),
        ("flyte.remote._nothing:Action", "", False),
        ("flyte.remote._task:LazyEntity._getter", "", True),
        ("flyte.remote._task:LazyEntity._setter", "", False),
    ],
)
def test_a_name_is_there_with_its_parameters_or_is_set_by_a_constructor(
    name: str, parameters: str, expected: bool
) -> None:
    assert is_there(name, parameters) is expected


def test_every_part_of_the_sdk_that_is_used_is_checked_at_start_up() -> None:
    used = set[str]()
    for file in (TEMPLATE / "passthrough").rglob("*.py"):
        used |= {*re.findall(r'sdk_object\("(flyte[^"]+)"\)', text := file.read_text("utf-8"))}
        assert file.name == "passthrough_auth.py" or not re.search(
            r"^(from|import) flyte\S*\._", text, re.M
        )
    unchecked = [name for name in used if not any(each.startswith(name) for each in SDK_NAMES)]
    assert len(used) > 10
    assert unchecked == []


def test_all_that_is_changed_in_the_sdk_is_checked_at_start_up() -> None:
    assert python(CHANGED_UNCHECKED) == []
