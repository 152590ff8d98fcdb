"""docs/flyte-remote.md has every public name of the SDK that apps use, and refusals are refused."""

import asyncio
import inspect
import re
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

import flyte
import pytest
from flyte import remote
from template import ROOT

from local_flyte.testing import acting_as
from passthrough.calls.errors import NotForManyCallersError
from passthrough.calls.make_safe import REFUSED

from .deployed_tasks import greet

PAGE = (ROOT / "docs" / "flyte-remote.md").read_text("utf-8")
FUNCTIONS = ("build", "run", "rerun", "with_runcontext")
"""The functions of ``flyte`` itself with which apps build images and start runs."""


def installed() -> Iterator[str]:
    """Yield the public names of the installed SDK: functions, classes, and their methods."""
    for name in remote.__all__:
        found = getattr(remote, name)
        methods = [*_methods(found)] if inspect.isclass(found) else []
        yield from (f"{name}.{method}" for method in methods)
        if not methods:
            yield name
    yield from (f"flyte.{name}" for name in FUNCTIONS)


def _methods(kind: type) -> Iterator[str]:
    for name in dir(kind):
        owner = next(each for each in kind.__mro__ if name in vars(each) or each is object)
        found = vars(owner).get(name)
        is_method = callable(found) or isinstance(found, classmethod | staticmethod)
        if not name.startswith("_") and owner.__module__.startswith("flyte") and is_method:
            yield name


def test_every_public_name_of_the_installed_sdk_is_on_the_page() -> None:
    with_notes, as_documented = PAGE.split("As in Flyte's documentation:")
    listed = {*re.findall(r"^\| `(\S+)` \|", with_notes, re.M)}
    for owner, methods in re.findall(r"^\| `(\w+)` \| (.*)\|$", as_documented, re.M):
        listed |= {f"{owner}.{each}" for each in re.findall(r"`(\w+)`", methods)} or {owner}
    refused = {name.removeprefix("flyte.remote:").replace(":", "."): name for name in REFUSED}
    on_the_page = {name for name in refused if "._" not in name}
    assert listed == {*installed(), "TaskDetails.interface", *on_the_page}
    for name in on_the_page:
        assert f"| `{name}` | **refused**: {REFUSED[refused[name]]} |" in PAGE


@pytest.mark.usefixtures("_safe_sdk")
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_call_says_what_to_use_instead(name: str) -> None:
    refused = resolve_name(name)
    for call in (refused, refused.aio):
        with pytest.raises(NotForManyCallersError, match="serves many callers") as raised:
            call(None)
        assert name in str(raised.value)
        assert REFUSED[name] in str(raised.value)


@pytest.mark.usefixtures("local_flyte")
@pytest.mark.parametrize("mode", ["local", "hybrid"])
def test_no_task_runs_in_the_app(mode: Any) -> None:
    with acting_as("alice"):
        context: Any = flyte.with_runcontext(mode=mode, name="r1", run_base_dir="/tmp")
        with pytest.raises(NotForManyCallersError):
            asyncio.run(context.run.aio(greet, name="Ada"))
        with pytest.raises(NotForManyCallersError):
            context.run(greet, name="Ada")
