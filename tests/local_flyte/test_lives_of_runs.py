"""What a cluster forgets of a run, and what comes late: as tests can make it happen."""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from local_flyte import LocalFlyte

from .on_the_wire import PROJECT, call, stream

CREATE = "workflow.RunService/CreateRun"
DETAILS = "workflow.RunService/GetRunDetails"
TAIL = "dataproxy.DataProxyService/TailLogs"
DATA = "dataproxy.DataProxyService/GetActionData"


def spec(script: str) -> dict[str, Any]:
    """Return the specification of a task that runs a shell script."""
    container = {"command": ["sh", "-c", script]}
    return {"taskTemplate": {"interface": {}, "container": container}}


def run_id(name: str) -> dict[str, str]:
    return {"project": PROJECT["name"], "domain": PROJECT["domain"], "name": name}


def start(flyte: LocalFlyte, name: str, script: str, text: str = "") -> dict[str, Any]:
    """Start a run of this name, and return its action as the answer has it."""
    literal = {"scalar": {"primitive": {"stringValue": text}}}
    request = {
        "runId": run_id(name),
        "taskSpec": spec(script),
        "inputs": {"literals": [{"name": "text", "value": literal}]},
    }
    answer = call(flyte, CREATE, request, person="alice")
    assert answer.status_code == 200, answer.text
    action: dict[str, Any] = answer.json()["run"]["action"]
    return action


def until(
    flyte: LocalFlyte, name: str, condition: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Wait until the run's action is as expected, and return it."""
    deadline = time.monotonic() + 60
    while True:
        answer = call(flyte, DETAILS, {"runId": run_id(name)}, person="bob").json()
        action: dict[str, Any] = answer["details"]["action"]
        if condition(action):
            return action
        assert time.monotonic() < deadline, action
        time.sleep(0.02)


def is_in(phase: str) -> Callable[[dict[str, Any]], bool]:
    return lambda action: action["status"]["phase"] == f"ACTION_PHASE_{phase}"


def has_reported(phase: str) -> Callable[[dict[str, Any]], bool]:
    return lambda action: (
        bool(action.get("attempts")) and action["attempts"][0]["phase"] == f"ACTION_PHASE_{phase}"
    )


def action_id(name: str) -> dict[str, Any]:
    return {"actionId": {"run": run_id(name), "name": "a0"}}


def log(flyte: LocalFlyte, name: str) -> str:
    """Return a run's log or the code of the refusal."""
    answer = stream(flyte, TAIL, {**action_id(name), "attempt": 1}, person="alice")
    text = ""
    while answer:
        length = int.from_bytes(answer[1:5], "big")
        message, answer = json.loads(answer[5 : 5 + length]), answer[5 + length :]
        if "error" in message:
            return str(message["error"]["code"])
        for part in message.get("logs", []):
            text += "".join(line["message"] for line in part["lines"])
    return text


def inputs(flyte: LocalFlyte, name: str) -> httpx.Response:
    return call(flyte, DATA, action_id(name), person="alice")


def test_a_log_goes_with_the_pod_and_then_the_name_runs_again(local_flyte: LocalFlyte) -> None:
    start(local_flyte, "again", "echo first", "one")
    until(local_flyte, "again", is_in("SUCCEEDED"))
    assert log(local_flyte, "again") == "first\n"

    start(local_flyte, "again", "echo second", "two")  # is left alone while there is a pod
    assert until(local_flyte, "again", bool)["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert log(local_flyte, "again") == "first\n"

    local_flyte.remove_pods("again")
    assert log(local_flyte, "again") == "not_found"
    start(local_flyte, "again", "echo second", "two")
    until(local_flyte, "again", has_reported("SUCCEEDED"))
    assert log(local_flyte, "again") == "second\n"


def test_a_name_runs_again_as_soon_as_its_run_was_aborted(local_flyte: LocalFlyte) -> None:
    start(local_flyte, "aborted", "sleep 100000")
    until(local_flyte, "aborted", is_in("RUNNING"))
    call(local_flyte, "workflow.RunService/AbortRun", {"runId": run_id("aborted")}, person="alice")
    until(local_flyte, "aborted", has_reported("ABORTED"))
    assert log(local_flyte, "aborted") == "not_found"
    start(local_flyte, "aborted", "echo alive")
    until(local_flyte, "aborted", is_in("SUCCEEDED"))
    assert log(local_flyte, "aborted") == "alive\n"


def test_a_watch_may_end_before_the_status_says_so(local_flyte: LocalFlyte) -> None:
    with local_flyte.status_lag(1):
        start(local_flyte, "late", "exit 0")
        watch = "workflow.RunService/WatchActionDetails"
        answer = stream(local_flyte, watch, action_id("late"), person="alice")
    messages = []
    while answer:
        length = int.from_bytes(answer[1:5], "big")
        messages.append(json.loads(answer[5 : 5 + length]))
        answer = answer[5 + length :]
    last = messages[-2]["details"]  # behind it comes the end of the stream
    assert last["attempts"][0]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert last["status"]["phase"] != "ACTION_PHASE_SUCCEEDED"
    until(local_flyte, "late", is_in("SUCCEEDED"))


def test_inputs_of_more_than_2_mib_are_not_handed_out(local_flyte: LocalFlyte) -> None:
    start(local_flyte, "large", "exit 0", "x" * 2 * 2**20)
    refusal = inputs(local_flyte, "large")
    assert refusal.status_code == 500
    assert refusal.json()["code"] == "internal"
    start(local_flyte, "small", "exit 0", "x" * (2 * 2**20 - 100))
    assert inputs(local_flyte, "small").status_code == 200


def test_a_task_that_can_not_be_executed_is_refused_with_the_reason_and_leaves_no_run(
    local_flyte: LocalFlyte,
) -> None:
    request = {"runId": run_id("sql"), "taskSpec": {"taskTemplate": {"sql": {"statement": "x"}}}}
    refusal = call(local_flyte, CREATE, request, person="alice")
    assert refusal.status_code == 501
    assert refusal.json()["message"] == "the local Flyte runs tasks in containers only"
    assert call(local_flyte, DETAILS, {"runId": run_id("sql")}, person="alice").status_code == 404


def test_outputs_are_shown_of_what_has_succeeded(local_flyte: LocalFlyte) -> None:
    """With tests/conformance, which shows that they are not of anything else."""
    writes = {"command": ["sh", "-c", 'mkdir -p "$0" && : > "$0/outputs.pb"', "{{.outputPrefix}}"]}
    request = {
        "runId": run_id("writes"),
        "taskSpec": {"taskTemplate": {"interface": {}, "container": writes}},
        "inputs": {},
    }
    assert call(local_flyte, CREATE, request, person="alice").status_code == 200
    until(local_flyte, "writes", is_in("SUCCEEDED"))
    assert inputs(local_flyte, "writes").json()["outputsUri"].endswith("/outputs.pb")


def test_a_file_of_a_root_can_not_be_replaced_by_another(local_flyte: LocalFlyte) -> None:
    method = "dataproxy.DataProxyService/CreateUploadLocation"
    location = {
        "project": PROJECT["name"],
        "domain": PROJECT["domain"],
        "filename": "abc",
        "filenameRoot": "root",
        "contentMd5": base64.b64encode(hashlib.md5(b"abc").digest()).decode(),
    }
    answer = call(local_flyte, method, location, person="alice").json()
    with httpx.Client(trust_env=False, timeout=60) as client:
        put = client.put(answer["signedUrl"], headers=answer["headers"], content=b"abc")
        assert put.status_code == 200
    assert call(local_flyte, method, location, person="alice").status_code == 200
    for md5 in (base64.b64encode(bytes(16)).decode(), ""):
        refusal = call(local_flyte, method, {**location, "contentMd5": md5}, person="alice")
        assert refusal.json()["code"] == "already_exists"


def test_an_upload_is_taken_with_its_md5_and_under_its_url_only(local_flyte: LocalFlyte) -> None:
    md5 = base64.b64encode(bytes.fromhex("900150983cd24fb0d6963f7d28e17f72")).decode()  # of abc
    location = {
        "project": PROJECT["name"],
        "domain": PROJECT["domain"],
        "filename": "abc",
        "contentMd5": md5,
    }
    method = "dataproxy.DataProxyService/CreateUploadLocation"
    answer = call(local_flyte, method, location, person="alice").json()
    with httpx.Client(trust_env=False, timeout=60) as client:
        url, headers = answer["signedUrl"], answer["headers"]
        assert client.put(url, headers=headers, content=b"abd").status_code == 400
        assert client.put(url, content=b"abc").status_code == 400
        assert client.put(url + "x", headers=headers, content=b"abc").status_code == 403
        assert client.put(url, headers=headers, content=b"abc").status_code == 200
        location["expiresIn"] = "0s"
        url = call(local_flyte, method, location, person="alice").json()["signedUrl"]
        assert client.put(url, headers=headers, content=b"abc").status_code == 403
