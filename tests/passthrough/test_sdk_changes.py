"""Each of the four changes to the SDK is necessary, and what it changes is checked at start-up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import flyte
import pytest

from ..baking import Baker

CHANGES = {
    "change_sessions": "caches_nothing",
    "change_loop": "caches_nothing",
    "change_types": "unpickled",
    "change_lazy_tasks": "caches_nothing",
}
"""The change that is left out, and part of the name of the promise that fails first."""
PARTS = (
    "flyte.remote._client.controlplane:SessionConfig",
    "flyte.remote._client.auth._session:SessionConfig.connect_kwargs",
    "flyte.remote._client.controlplane:create_session_config",
    "flyte._utils.async_cache:ThreadSafeCache.get_or_compute",
    "flyte.syncify:syncify._bg_loop",
    "flyte.syncify._api:_BackgroundLoop.is_in_loop",
    "flyte.syncify._api:_BackgroundLoop.call_in_loop_sync",
    "flyte.syncify._api:_BackgroundLoop.iterate_in_loop_sync",
    "flyte.remote:Action.wait",
    "flyte.remote:Run.show_logs",
    "flyte.types:TypeEngine.guess_python_type",
    "flyte.types:TypeEngine.to_literal",
    "flyte.types:TypeEngine.to_literal_type",
    "flyte.types:TypeEngine.to_python_value",
    "flyte.types:TypeEngine.literal_map_to_kwargs",
    "flyte.types:guess_interface",
    "flyte.types._pickle:DEFAULT_PICKLE_BYTES_LIMIT",
    "flyte.models:NativeInterface.convert_to_kwargs",
    "flyte.models:NativeInterface.json_schema",
    "flyte._run:_Runner.rerun",
    "flyte._run:_Runner._run_local",
    "flyte._run:_Runner._run_hybrid",
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.image_exists",
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.build",
    "flyte.storage:get_underlying_filesystem",
    "flyte.storage._storage:get_underlying_filesystem",
    "flyte.remote._task:LazyEntity.fetch",
    "flyte.remote._task:LazyEntity.override",
    "flyte.remote._data:hash_file",
    "flyte.remote._auth_metadata:get_auth_metadata",
    "flyte._initialize:get_init_config",
    "flyte._initialize:_context_init_config",
)
"""Every private name of the SDK that is used."""

WITHOUT_EACH = """
import json, pkgutil, sys
from passthrough.calls import make_safe as sdk

def owner_of(part):
    path, _, name = part.rpartition("." if "." in part.split(":")[1] else ":")
    return pkgutil.resolve_name(path), name

parts = json.loads(sys.argv[1])
kept = [(*owner_of(part), vars(owner_of(part)[0])[owner_of(part)[1]]) for part in parts]
told = {}
for part in parts:
    delattr(*owner_of(part))
    try:
        sdk.make_safe()
        told[part] = "started"
    except BaseException as error:
        told[part] = f"{type(error).__name__}: {error}"
    for whole in kept:
        setattr(*whole)
    sdk._done.clear()
sdk.make_safe()
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
for name in (*sdk.SDK_NAMES, *map(sdk._sdk_name, sdk.REFUSED)):
    module, _, path = name.partition(":")
    owner = pkgutil.resolve_name(module)
    for name in path.split("."):
        checked |= {(id(owner), name), (id(type(owner)), name)}
        owner = getattr(owner, name)
before = {(id(owner), name): value for owner, name, value in attributes()}
sdk.make_safe()
print(json.dumps([
    f"{owner.__name__}.{name}" for owner, name, value in attributes()
    if before.get((id(owner), name), value) is not value and (id(owner), name) not in checked
]))
"""

WITHOUT_ONE = """
import sys, pytest
from passthrough.calls import make_safe as sdk

change, promise = sys.argv[1].split(" ")
setattr(sdk, change, lambda: None)
imported_before_pytest = "ignore::pytest.PytestAssertRewriteWarning"
options = ["-q", "-n0", "-p", "no:schemathesis", "-W", imported_before_pytest, "-k", promise]
sys.exit(pytest.main(["tests/test_promises.py", *options]))
"""


def python(code: str, argument: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in a project's folder."""
    return subprocess.run(
        [sys.executable, "-c", code, argument],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def project(baker: Baker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated project."""
    return baker(tmp_path_factory.mktemp("changes"))


def test_the_app_does_not_start_if_flyte_lacks_one_of_the_names(project: Path) -> None:
    ran = python(WITHOUT_EACH, json.dumps(PARTS), project)
    assert ran.returncode == 0, ran.stderr
    for part, told in json.loads(ran.stdout).items():
        assert told.startswith("UnsupportedFlyteError: "), (part, told)
        assert f"flyte {flyte.__version__} cannot be made safe for many callers" in told
        assert "Pin flyte>=2.12,<2.13 in pyproject.toml" in told
        assert part.rpartition(".")[2].rpartition(":")[2] in told, (part, told)


def test_all_that_is_changed_in_the_sdk_is_checked_at_start_up(project: Path) -> None:
    ran = python(CHANGED_UNCHECKED, "", project)
    assert json.loads(ran.stdout) == [], ran.stderr


@pytest.mark.parametrize(
    "change",
    # The tests of each change are in the other files of this folder.
    [pytest.param(each, marks=[pytest.mark.weekly] * (each != "change_types")) for each in CHANGES],
)
def test_a_promise_breaks_without_each_change(project: Path, change: str) -> None:
    ran = python(WITHOUT_ONE, f"{change} {CHANGES[change]}", project)
    assert ran.returncode != 0, ran.stdout + ran.stderr
    assert re.search("[1-9] (failed|error)", ran.stdout), ran.stdout
