"""The endpoints of app/routers/tasks.py."""

from typing import Any

import httpx
import pytest
from flyteidl2.task.task_service_pb2 import GetTaskDetailsResponse, ListTasksRequest

from app.routers import tasks

from ..stub_servers import StubServer
from ..support import router_of

pytestmark = pytest.mark.usefixtures("certificate")
router = router_of(tasks)
RUNS = "/tasks/tests.greet/runs"


def test_sdk_argument_name_is_refused_as_input(alice: httpx.Client) -> None:
    for name in ("obj", "run_name"):
        answer = alice.post(RUNS, json={"inputs": {"name": "Ada", name: 1}})
        assert answer.status_code == 422, answer.text
        assert f"{name} is the name of an argument" in answer.text


def test_task_with_2001_inputs_is_413(stub_client: httpx.Client, stub: StubServer) -> None:
    variables = [{"key": str(number)} for number in range(2_001)]
    spec: Any = {"task_template": {"interface": {"inputs": {"variables": variables}}}}
    stub.answers(GetTaskDetailsResponse(details={"spec": spec}).SerializeToString())
    for method, path in (("GET", "/tasks/t?version=1"), ("POST", "/tasks/t/runs?version=1")):
        refused = stub_client.request(method, path, json={})
        assert (refused.status_code, refused.json()["code"]) == (413, "message_too_large")
        assert "the task has more than 2,000 inputs or outputs" in refused.json()["detail"]


def test_list_tasks_requests_pages_of_200(stub_client: httpx.Client, stub: StubServer) -> None:
    stub.answers(b"")
    assert stub_client.get("/tasks").json() == []
    (asked,) = (ListTasksRequest.FromString(call["body"]) for call in stub.received)
    assert asked.request.limit == 200
