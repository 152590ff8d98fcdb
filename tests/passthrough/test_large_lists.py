"""Lists with entries that are too large: one person's entries hide nothing from others."""

import asyncio
from collections.abc import Callable, Iterator

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote
from flyteidl2.task.task_service_pb2 import DeployTaskRequest

from app.routers import me, runs, tasks
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import acting_as, client_of, serving
from passthrough.calls.caller import initialised
from passthrough.limits import Limits
from passthrough.settings import Settings

from .support import build_app

LIMITS = Limits(answer_bytes=100_000, request_bytes=150_000)
LARGE = "x" * 110_000

router = APIRouter()
for module in (me, runs, tasks):
    router.include_router(module.router)


@pytest.fixture(scope="module")
def bob(local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Bob's client of an app that reads little."""
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(build_app(router)) as url,
        client_of(url, "bob") as client,
    ):
        patch.setattr(Settings, "limits", LIMITS)
        yield client


def deploy(name: str, description: str) -> None:
    """Deploy a task like another one, with a description."""
    with acting_as("alice"):
        found = remote.Task.get("tests.greet", auto_version="latest").fetch()
        request = DeployTaskRequest(task_id=found.pb2.task_id, spec=found.pb2.spec)
        request.task_id.name = request.spec.task_template.id.name = name
        request.spec.documentation.short_description = description
        asyncio.run(initialised().client.task_service.deploy_task(request))


def run(**labels: str) -> str:
    """Start a run with labels, as alice."""
    with acting_as("alice"):
        found = remote.Task.get("tests.greet", auto_version="latest")
        context = flyte.with_runcontext("remote", labels=labels)
        return str(context.run(found, name="Ada").name)


def test_an_entry_that_is_too_large_hides_no_other(
    bob: httpx.Client,
    received: Callable[[], list[ReceivedCall]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {task["name"] for task in bob.get("/tasks").json()}
    for name, text in (("tests.a", ""), ("tests.b", LARGE), ("tests.c", "")):
        deploy(name, text)
    answer = bob.get("/tasks")
    assert answer.headers["x-left-out"] == "1"
    shown = {task["name"] for task in answer.json()}
    assert shown == before | {"tests.a", "tests.c"}
    small = [run() for _ in range(3)]
    run(text=LARGE)
    small += [run() for _ in range(3)]
    assert {each["name"] for each in bob.get("/runs").json()} == {*small}
    assert caplog.text.count("A list is shown without its entries that are too large") == 2
    assert [call.method for call in received()].count("ListRuns") < 20


def test_what_is_too_large_together_is_shown_as_far_as_it_can_be(bob: httpx.Client) -> None:
    large = {run(text="x" * 60_000) for _ in range(4)}
    shown = {each["name"] for each in bob.get("/runs", params={"limit": 4}).json()}
    assert len(shown & large) == 2
