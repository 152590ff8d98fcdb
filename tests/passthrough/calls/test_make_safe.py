"""Tests of the SDK after `make_safe`: calls work as in Flyte's documentation, or are refused."""

import asyncio
import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import flyte
import flyte.io
import httpx
import pytest
from flyte import remote
from flyte.app import AppEnvironment
from flyteidl2.artifact import artifact_pb2

from app.routers import streams
from local_flyte import LocalFlyte
from local_flyte.testing import acting_as, bearer, client_of, ended, start
from passthrough.calls.make_safe import REFUSED
from passthrough.calls.sdk import NotForManyCallersError

from .. import naive_endpoints
from ..flyte_tasks import UNPICKLED, env, greet
from ..support import Received, router_of, run_python

router = router_of(naive_endpoints, streams)


async def use(stored: Any, method: str) -> None:
    result = getattr(stored, method)()
    if hasattr(result, "__aenter__"):
        await result.__aenter__()
    elif hasattr(result, "__aiter__"):
        await anext(result)
    elif hasattr(result, "__enter__"):
        result.__enter__()
    elif inspect.isgenerator(result):
        next(result)
    elif inspect.isawaitable(result):
        await result


METHODS = [
    (kind, name)
    for kind in (flyte.io.File, flyte.io.Dir, flyte.io.DataFrame)
    for name in vars(kind)
    if re.match("download|exists|list|open|walk", name)
]


@pytest.mark.usefixtures("_safe_sdk")
@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_path_in_stored_value_is_not_opened(kind: Any, method: str, tmp_path: Path) -> None:
    (tmp_path / "private").touch()
    path = tmp_path / "private" if kind is flyte.io.File else tmp_path
    with pytest.raises(NotForManyCallersError):
        asyncio.run(use(kind.from_existing_remote(str(path)), method))


ADA = {"name": "Ada"}
CALLS: list[tuple[str, Any, list[int]]] = [
    ("GET /whoami", None, [200, 200, 200]),
    ("GET /tasks/tests.greet", None, [200, 200, 403]),
    ("POST /tasks/tests.greet/run", ADA, [200, 403, 403]),
    ("POST /tasks/tests.count/run", {"to": 0}, [502, 403, 403]),  # it fails
    ("POST /run-task/flytesnacks/development/tests.greet", ADA, [200, 403, 403]),
    ("GET /runs/{run}", None, [200, 200, 403]),
    ("GET /runs/{run}/log", None, [200, 200, 403]),
    ("GET /runs/{run}/io", None, [200, 200, 403]),
    ("POST /runs/{run}/again", {"name": "Bob"}, [200, 403, 403]),
    ("POST /runs/{counting}/abort", None, [200, 403, 403]),
]


@pytest.mark.parametrize(("call", "body", "expected"), CALLS)
def test_sdk_calls_have_rights_of_caller(
    *, url: str, greeting: str, counting: str, call: str, body: Any, expected: list[int]
) -> None:
    method, path = call.format(run=greeting, counting=counting).split()
    for person, status in zip(("alice", "victor", "carol"), expected, strict=True):
        with client_of(url, person) as client:
            assert client.request(method, path, json=body).status_code == status, person


def test_stored_values_are_never_unpickled_or_opened(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = ended(start("tests.gifts"))
    UNPICKLED.unlink(missing_ok=True)
    outputs = alice.get(f"/runs/{run}/io").json()["outputs"]
    assert all(outputs[number].pop("size") > 0 for number in (0, 3))
    assert outputs == [
        {"kind": "pickle"},
        {"kind": "file", "uri": "file:///etc/passwd"},
        {"kind": "file", "uri": "http://169.254.169.254/latest"},
        {"kind": "too large"},
        "NaN",
    ]
    assert alice.get("/tasks/tests.gifts").json()["schema"]["type"] == "object"
    assert not UNPICKLED.exists()


@pytest.mark.usefixtures("_safe_sdk")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_sdk_call_error_names_alternative(name: str) -> None:
    refused = resolve_name(name)
    for call in (refused, refused.aio):
        with pytest.raises(NotForManyCallersError, match="serves many callers") as raised:
            call(None)
        assert name in str(raised.value)
        assert REFUSED[name] in str(raised.value)


@pytest.mark.usefixtures("_safe_sdk")
@pytest.mark.parametrize("method", ["coerce_to_literal", "to_python"])
def test_artifact_is_never_loaded(method: str) -> None:
    artifact = remote.Artifact(artifact_pb2.Artifact())
    with pytest.raises(NotForManyCallersError, match=r"to_python_value.*URL of an artifact"):
        asyncio.run(getattr(artifact, method)(int))


def run_greet(**options: Any) -> Any:
    return flyte.with_runcontext(**options).run.aio(greet, name="Ada")


@pytest.mark.parametrize(
    "call",
    [
        run_greet,
        partial(run_greet, copy_style="none", version="1"),
        partial(run_greet, interactive_mode=True),
        partial(run_greet, mode="local"),
        partial(flyte.build.aio, flyte.Image.from_debian_base(name="report")),
        partial(flyte.deploy.aio, env),
        partial(flyte.serve.aio, AppEnvironment(name="app", image="image")),
    ],
)
def test_local_function_is_not_run_or_uploaded(call: Callable[[], Any], received: Received) -> None:
    async def refused() -> None:
        with pytest.raises(NotForManyCallersError, match=r"^flyte\.run of a function, "):
            await call()

    with acting_as("alice"):
        asyncio.run(refused())
    assert received() == []


START = """
import os
from passthrough.calls.make_safe import make_safe
os.environ.pop("DO_NOT_TRACK", None)
if os.fork():  # the other process has nothing from its owner
    os.wait()
    os.environ["DO_NOT_TRACK"] = "0"
make_safe()
print(os.environ["DO_NOT_TRACK"], flush=True)
"""


def test_sdk_sends_no_usage_reports_by_default() -> None:
    assert run_python(START).stdout.split() == ["1", "0"]


@router.get("/blocks/{kind}")
async def block(kind: str) -> Any:
    return remote.Run.get("any") if kind == "get" else list(remote.Run.listall())


@pytest.mark.parametrize("kind", ["get", "listall"])
def test_blocking_call_in_async_endpoint_is_refused(
    alice: httpx.Client, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert alice.get(f"/blocks/{kind}").status_code == 500
    refused = f"Run.{kind} blocks, and in an `async def` it would block every caller"
    assert f"{refused}: call `Run.{kind}.aio(…)`" in caplog.text


GREET_TASK = remote.Task.get("tests.greet", auto_version="latest")
"""At module level, for all callers."""


@router.post("/greet")
async def run_the_module_level_task() -> str:
    return (await flyte.run.aio(GREET_TASK, name="Ada")).name


@router.post("/greet/override")
async def run_it_overridden() -> str:
    task = GREET_TASK.override.aio(short_name="salutation")
    return (await flyte.run.aio(await task, name="Ada")).name


def test_module_level_task_is_fetched_per_caller(
    alice: httpx.Client, bob: httpx.Client, received: Received
) -> None:
    for path in ("/greet", "/greet/override"):
        for client in (alice, bob, alice):
            assert client.post(path).status_code == 200
    for method in ("GetTaskDetails", "CreateRun"):
        callers = [call.headers["authorization"] for call in received() if call.method == method]
        assert callers == [bearer("alice"), bearer("bob"), bearer("alice")] * 2
