"""What is used of the SDK, and changed in it, is checked at start-up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import flyte

import passthrough
from passthrough.calls.sdk import SDK_NAMES

TEMPLATE = Path(passthrough.__file__).parents[1]
WITHOUT_EACH = """
import importlib, json
from flyte import remote
from passthrough.calls import make_safe as sdk

for name in remote.__all__:
    getattr(remote, name)
del remote.__getattr__  # it would find again what is lost

def lose(name, parameters):
    # Remove what the name refers to, and return a function that restores it.
    module, _, path = name.partition(":")
    owner, found = importlib.import_module(module), []
    for step in path.split("."):
        places = (owner, type(owner), *getattr(owner, "__mro__", ()))
        holders = [each for each in places if step in getattr(each, "__dict__", {})]
        found.append((holders[0], step) if holders else (owner, "__init__"))  # which sets it
        owner = getattr(owner, step, None)
    for holder, step in reversed(found):
        kept = holder.__dict__.get(step)
        try:
            delattr(holder, step)
        except (TypeError, AttributeError):  # a type of Python's own
            continue
        if not sdk.is_there(name, parameters):
            return lambda: setattr(holder, step, kept)
        setattr(holder, step, kept)  # it was a temporary object's, or another has it, too

told = {}
for name, parameters in (sdk.SDK_NAMES | dict.fromkeys(sdk.REFUSED, "")).items():
    if not parameters and hasattr(object, name.rpartition(".")[2]):
        continue  # each object has it
    restore = lose(name, parameters)
    try:
        sdk.make_safe()
        told[name] = "started"
    except BaseException as error:
        told[name] = f"{type(error).__name__}: {error}"
    restore()
    sdk.make_safe.cache_clear()
print(json.dumps(told))
"""

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


def test_the_app_does_not_start_if_flyte_lacks_one_of_the_names() -> None:
    for name, told in python(WITHOUT_EACH).items():
        assert told.startswith("StartError: "), (name, told)
        assert f"flyte {flyte.__version__} cannot be made safe for many callers" in told
        assert "Pin flyte>=2.12,<2.13 in pyproject.toml" in told


def test_every_part_of_the_sdk_that_is_used_is_checked_at_start_up() -> None:
    used = set[str]()
    for file in (TEMPLATE / "passthrough").rglob("*.py"):
        used |= {*re.findall(r'part\("(flyte[^"]+)"\)', text := file.read_text("utf-8"))}
        assert file.name == "passthrough_auth.py" or not re.search(
            r"^(from|import) flyte\S*\._", text, re.M
        )
    unchecked = [name for name in used if not any(each.startswith(name) for each in SDK_NAMES)]
    assert len(used) > 10
    assert unchecked == []


def test_all_that_is_changed_in_the_sdk_is_checked_at_start_up() -> None:
    assert python(CHANGED_UNCHECKED) == []
