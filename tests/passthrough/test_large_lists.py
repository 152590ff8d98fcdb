"""Lists with entries that are too large: one person's entries hide nothing from others."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote
from flyteidl2.project import project_service_connect
from flyteidl2.project import project_service_pb2 as pb

from app.routers import conditions, me, runs, streams
from local_flyte import LocalFlyte, ReceivedCall
from local_flyte.testing import acting_as, client_of, ended, events, serving, start, wait_until
from passthrough.limits import Limits
from passthrough.settings import Settings

from .support import build_app

LIMITS = Limits(answer_bytes=100_000, request_bytes=150_000)
LARGE = "x" * 110_000

router = APIRouter()
for module in (conditions, me, runs, streams):
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


def run(text: str = "") -> str:
    """Return a run of alice's with a label. It has ended: until then, Flyte may move its start."""
    with acting_as("alice"):
        found = remote.Task.get("tests.greet", auto_version="latest")
        context = flyte.with_runcontext("remote", labels={"text": text})
        return ended(str(context.run(found, name="Ada").name))


def test_an_entry_that_is_too_large_hides_no_other(
    bob: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    small = {run(), run(), run()}
    run(LARGE)
    small |= {run(), run(), run()}
    answer = bob.get("/runs")
    assert {each["name"] for each in answer.json()} == small
    assert answer.headers["x-left-out"] == "1"
    assert [call.method for call in received()].count("ListRuns") < 20


def test_what_is_too_large_only_together_is_refused_and_fewer_are_shown(bob: httpx.Client) -> None:
    large = [run("x" * 60_000) for _ in range(4)]
    answers = [bob.get("/runs", params={"limit": limit}) for limit in (4, 2)]
    assert str(LIMITS.request_bytes) in answers[0].json()["detail"]
    assert len({each["name"] for each in answers[1].json()} & {*large}) == 2


class Projects(project_service_connect.ProjectService):
    """Lists two projects, of which somebody has given the first a large description."""

    async def list_projects(self, request: pb.ListProjectsRequest, _: Any) -> Any:
        """Return a page."""
        projects = [pb.Project(id="p0", description=LARGE), pb.Project(id="p1")]
        start, end = int(request.token or 0), int(request.token or 0) + request.limit
        found = pb.Projects(projects=projects[start:end], token=str(end) if end < 2 else "")
        return pb.ListProjectsResponse(projects=found)


def test_a_project_that_is_too_large_hides_no_other(
    bob: httpx.Client, local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = project_service_connect.ProjectServiceASGIApplication(Projects())
    monkeypatch.setitem(local_flyte._services.applications, service.path, service)
    answer = bob.get("/projects")
    assert [each["id"] for each in answer.json()] == ["p1"]
    assert answer.headers["x-left-out"] == "1"


def test_a_condition_that_is_too_large_hides_no_other(
    bob: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = start("tests.ask", prompts=["a?", "b?", "c?"])
    wait_until(lambda: len(bob.get(f"/runs/{run}/conditions").json()) == 3)
    (found,) = (each for each in local_flyte._services.runs if each.id.name == run)
    (large,) = (each for each in found.actions.values() if each.details.condition.prompt == "b?")
    large.details.metadata.group = LARGE
    for path in ("/conditions", f"/runs/{run}/conditions"):
        answer = bob.get(path)
        assert {each["prompt"] for each in answer.json()} == {"a?", "c?"}, path
        assert int(answer.headers["x-left-out"]) >= 1


def test_details_too_large_together_are_refused_in_a_list_and_come_in_turn_in_a_stream(
    bob: httpx.Client, local_flyte: LocalFlyte
) -> None:
    run = ended(start("tests.crowd", size=3))
    (found,) = (each for each in local_flyte._services.runs if each.id.name == run)
    for action in found.actions.values():
        action.details.error_info.message = "x" * 60_000
    answers = [bob.get(f"/runs/{run}/actions", params={"limit": limit}) for limit in (4, 1)]
    assert [answer.status_code for answer in answers] == [413, 200]
    assert all(action["error"] for action in answers[1].json())
    shown = [json.loads(event.data) for event in events(bob.get(f"/runs/{run}/actions/events"))]
    assert {action["name"] for action in shown if action["error"]} == {*found.actions}
