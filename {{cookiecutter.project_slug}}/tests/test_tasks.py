"""GET /tasks, GET /tasks/{name} and POST /tasks/{name}/runs."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flyte
import httpx
import pytest
from connectrpc.code import Code
from flyte import remote
from flyteidl2.workflow.run_definition_pb2 import Action

from app.routers import tasks
from app.settings import load_settings
from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

from .support import TASKS, calling_as, finished, needs, wait_until

GREET = f"/tasks/{TASKS}.greet"


def test_tasks_are_listed(alice: httpx.Client) -> None:
    tasks = {task["name"]: task["version"] for task in alice.get("/tasks").json()["tasks"]}
    assert {f"{TASKS}.greet", f"{TASKS}.count"} <= tasks.keys()
    assert all(tasks.values())


def test_a_task_shows_what_it_takes_and_returns(alice: httpx.Client) -> None:
    task = alice.get(GREET).json()
    assert task["name"] == f"{TASKS}.greet"
    assert task["description"] == "Greet someone by name."
    assert task["inputs"]["required"] == ["name"]
    assert task["inputs"]["properties"] == {
        "name": {"type": "string"},
        "excited": {"type": "boolean", "default": False},
    }
    assert task["outputs"]["properties"] == {"o0": {"type": "string"}}


@pytest.mark.reads_what_flyte_received
def test_what_flyte_knows_of_a_task_is_asked_for_every_caller(
    alice: httpx.Client, carol: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    """The SDK would hand a task it once fetched to anyone, were the object kept (see README)."""
    for _ in range(2):
        assert alice.get(GREET).status_code == 200
        assert carol.get(GREET).status_code == 403
    asked = [call.person and call.person.name for call in received() if call.method == "ListTasks"]
    assert asked == ["alice", "carol", "alice", "carol"]


def test_a_run_is_started_with_its_inputs_as_the_caller(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    for person in (alice, bob):
        body = {"inputs": {"name": "Grace", "excited": True}}
        response = person.post(f"{GREET}/runs", json=body)
        assert response.status_code == 201
        run = response.json()
        assert run["task"] == f"{TASKS}.greet"
        assert response.headers["Location"].startswith(f"/runs/{run['name']}?")
        finished(person, run)


def test_the_address_of_a_run_is_quoted(
    alice: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tasks._start

    async def renamed(*args: Any, **kwargs: Any) -> Action:
        root = await started(*args, **kwargs)
        root.id.run.name = "../a?b#c"
        return root

    monkeypatch.setattr(tasks, "_start", renamed)
    response = alice.post(f"{GREET}/runs", json={"inputs": {"name": "Ada"}})
    assert response.headers["Location"].startswith("/runs/..%2Fa%3Fb%23c?project=")


@needs("/me")
def test_a_run_is_its_callers(bob: httpx.Client) -> None:
    run = bob.post(f"{GREET}/runs", json={"inputs": {"name": "Ada"}}).json()
    assert run["executed_by"]["subject"] == bob.get("/me").json()["subject"]


@pytest.mark.parametrize(
    ("inputs", "location"),
    [
        ({}, ["body", "inputs", "name"]),
        ({"name": 7}, ["body", "inputs", "name"]),
        ({"name": "Ada", "excited": "perhaps"}, ["body", "inputs", "excited"]),
        ({"name": "Ada", "loud": True}, ["body", "inputs", "loud"]),
    ],
)
def test_inputs_that_the_task_cannot_take_are_named(
    alice: httpx.Client, inputs: dict[str, Any], location: list[str]
) -> None:
    response = alice.post(f"{GREET}/runs", json={"inputs": inputs})
    assert response.status_code == 422
    assert [error["location"] for error in response.json()["errors"]] == [location]


def test_a_name_is_used_for_one_run_only(alice: httpx.Client, greeting: dict[str, Any]) -> None:
    body = {"inputs": {"name": "Ada"}, "name": greeting["name"]}
    response = alice.post(f"{GREET}/runs", json=body)
    assert response.status_code == 409
    assert greeting["name"] in response.json()["detail"]


def test_a_name_that_is_used_in_another_domain_is_refused_too(alice: httpx.Client) -> None:
    """Beside that run Flyte would leave the new one queued for ever."""
    with calling_as(alice):
        task = remote.Task.get(f"{TASKS}.greet", auto_version="latest")
        elsewhere = flyte.with_runcontext("remote", domain="staging").run(task, name="Ada")
    body = {"inputs": {"name": "Ada"}, "name": elsewhere.name}
    response = alice.post(f"{GREET}/runs", json=body)
    assert response.status_code == 409
    assert f"{elsewhere.name!r} in {load_settings().flyte_project}/staging" in response.text
    assert alice.get(f"/runs/{elsewhere.name}").status_code == 404


@pytest.mark.steers_flyte
def test_of_two_who_give_the_same_name_at_once_one_starts_a_run_and_the_other_is_told(
    alice: httpx.Client, bob: httpx.Client, local_flyte: LocalFlyte
) -> None:
    def start(person: httpx.Client, who: str) -> httpx.Response:
        body = {"inputs": {"name": who}, "name": "wanted-by-two"}
        return person.post(f"{GREET}/runs", params={"wait": 20}, json=body)

    with ThreadPoolExecutor(2) as threads:
        with local_flyte.hang("UploadInputs"):  # which comes after the name was found to be unused
            started = {
                who: threads.submit(start, person, who)
                for who, person in (("alice", alice), ("bob", bob))
            }
            wait_until(lambda: local_flyte.open_calls("UploadInputs") == 2)
        answers = {who: each.result() for who, each in started.items()}
    by_status = {answer.status_code: who for who, answer in answers.items()}
    assert by_status.keys() == {201, 409}
    first = answers[by_status[201]].json()
    assert first["executed_by"]["subject"] == PEOPLE[by_status[201]].subject
    assert first["outputs"] == {"o0": f"Hello, {by_status[201]}."}


@pytest.mark.parametrize("name", ["", "7up", "Ada", "a-", "a" * 31, "a.b"])
def test_a_name_that_flyte_would_not_take_is_refused(alice: httpx.Client, name: str) -> None:
    response = alice.post(f"{GREET}/runs", json={"inputs": {"name": "Ada"}, "name": name})
    assert response.status_code == 422
    assert response.json()["errors"][0]["location"] == ["body", "name"]


def test_what_a_new_run_does_not_know_is_refused_rather_than_ignored(alice: httpx.Client) -> None:
    response = alice.post(f"{GREET}/runs", json={"name": "a-run", "input": {"name": "Ada"}})
    assert response.status_code == 422
    assert response.json()["errors"][0]["location"] == ["body", "input"]


def test_a_run_that_is_waited_for_comes_with_its_outputs(alice: httpx.Client) -> None:
    response = alice.post(f"{GREET}/runs?wait=20", json={"inputs": {"name": "Ada"}})
    assert response.status_code == 201
    assert response.json()["outputs"] == {"o0": "Hello, Ada."}


def test_a_version_can_be_asked_for(alice: httpx.Client) -> None:
    latest = alice.get(GREET).json()
    assert alice.get(GREET, params={"version": latest["version"]}).json() == latest
    run = alice.post(
        f"{GREET}/runs", params={"version": latest["version"]}, json={"inputs": {"name": "Ada"}}
    ).json()
    assert run["version"] == latest["version"]
    assert alice.get(GREET, params={"version": "none"}).status_code == 404
    assert alice.post(f"{GREET}/runs?version=none", json={}).status_code == 404


def test_tasks_are_searched_and_paged(alice: httpx.Client) -> None:
    found = alice.get("/tasks", params={"search": "GREET"}).json()["tasks"]
    assert f"{TASKS}.greet" in {task["name"] for task in found}
    assert f"{TASKS}.count" not in {task["name"] for task in found}
    first = alice.get("/tasks", params={"search": TASKS, "limit": 1}).json()
    token = first["next_token"]
    second = alice.get("/tasks", params={"search": TASKS, "limit": 1, "token": token}).json()
    assert len(first["tasks"]) == len(second["tasks"]) == 1
    assert first["tasks"] != second["tasks"]


def test_a_large_body_is_refused(alice: httpx.Client) -> None:
    body = json.dumps({"inputs": {"name": "x" * 2_000_000}}).encode()
    announced = alice.post(f"{GREET}/runs", content=body)
    streamed = alice.post(f"{GREET}/runs", content=iter([body]))
    for response in (announced, streamed):
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-content-type-options"] == "nosniff"


def test_a_body_of_very_many_members_is_refused_in_few_words(alice: httpx.Client) -> None:
    response = alice.post(f"{GREET}/runs", json=dict.fromkeys(map(str, range(50_000)), 1))
    assert response.status_code == 422
    assert len(response.content) < 1000


def test_another_domain_has_other_tasks(alice: httpx.Client) -> None:
    assert alice.get("/tasks", params={"domain": "staging"}).json() == {
        "tasks": [],
        "next_token": None,
    }


def test_a_task_that_does_not_exist_is_a_problem(alice: httpx.Client) -> None:
    response = alice.get(f"/tasks/{TASKS}.none")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


@pytest.mark.reads_what_flyte_received
def test_a_page_of_another_site_cannot_run_a_task_with_the_visitors_cookie(
    anonymous: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    headers = {"Cookie": PEOPLE["alice"].cookie, "Sec-Fetch-Site": "cross-site"}
    response = anonymous.post(f"{GREET}/runs", headers=headers, json={"inputs": {"name": "x"}})
    assert response.status_code == 403
    assert received() == []


@pytest.mark.steers_flyte
def test_that_a_run_was_started_is_told_although_waiting_for_it_fails(
    hurried: httpx.Client, local_flyte: LocalFlyte
) -> None:
    body = {"inputs": {"name": "Ada"}}
    with local_flyte.hang("WatchActionDetails"), local_flyte.hang("GetActionDetails"):
        response = hurried.post(f"{GREET}/runs", params={"wait": 20}, json=body)
    assert response.status_code == 201
    assert f"/runs/{response.json()['name']}?" in response.headers["Location"]


@pytest.mark.steers_flyte
def test_a_run_that_was_waited_for_is_told_although_its_outputs_cannot_be_had(
    alice: httpx.Client, local_flyte: LocalFlyte
) -> None:
    local_flyte.fail_next("GetActionData", Code.NOT_FOUND, times=1)
    body = {"inputs": {"name": "Ada"}}
    run = alice.post(f"{GREET}/runs", params={"wait": 30}, json=body).json()
    assert (run["phase"], run["outputs"]) == ("succeeded", None)
