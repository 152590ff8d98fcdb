"""Runs to their end and after it: tries, names used again, logs, data, and late updates."""

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_flyte import LocalFlyte

from .on_the_wire import PROJECT, call, stream

CREATE = "workflow.RunService/CreateRun"
DETAILS = "workflow.RunService/GetRunDetails"
TAIL = "dataproxy.DataProxyService/TailLogs"
DATA = "dataproxy.DataProxyService/GetActionData"


WRITE = 'mkdir -p "$0" && : > "$0/outputs.pb"'
"""What an SDK task does before it ends successfully."""


def spec(script: str) -> dict[str, Any]:
    """Return the specification of a task that runs a shell script."""
    container = {"command": ["sh", "-c", script, "{{.outputPrefix}}"]}
    return {"taskTemplate": {"interface": {}, "container": container}}


def run_id(name: str) -> dict[str, str]:
    return {"project": PROJECT["name"], "domain": PROJECT["domain"], "name": name}


def start(flyte: LocalFlyte, name: str, script: str, text: str = "") -> dict[str, Any]:
    """Start a run with this name, and return its action from the answer."""
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
    deadline = time.monotonic() + 300
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


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def inputs(flyte: LocalFlyte, name: str) -> httpx.Response:
    return call(flyte, DATA, action_id(name), person="alice")


@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 3", 3)])
def test_a_run_without_outputs_or_an_error_fails_after_four_tries(
    local_flyte: LocalFlyte, end: str, code: int, tmp_path: Path
) -> None:
    name, tries = f"ends-with-{code}", tmp_path / "tries"
    start(local_flyte, name, f"echo once >> {tries}; echo said; {end}")
    action = until(local_flyte, name, is_in("FAILED"))
    assert tries.read_text() == "once\n" * 4
    (attempt,) = action["attempts"]
    assert action["status"]["attempts"] == 1  # Flyte tries again within the attempt
    phases = [each["phase"].removeprefix("ACTION_PHASE_") for each in attempt["phaseTransitions"]]
    assert phases == ["QUEUED", "INITIALIZING", "RUNNING", "FAILED"]  # each is listed once
    assert action["errorInfo"]["kind"] == "KIND_SYSTEM"
    message = action["errorInfo"]["message"]
    assert "failed with system error 4 times" in message
    assert f"exit code {code}" in message
    assert "said\n" in message
    assert log(local_flyte, name) == "said\n"


def test_a_run_that_succeeds_on_its_second_try_succeeds(
    local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    tried = tmp_path / "tried"
    start(local_flyte, "second-try", f"test -e {tried} && {WRITE} || {{ touch {tried}; exit 1; }}")
    action = until(local_flyte, "second-try", is_in("SUCCEEDED"))
    assert "errorInfo" not in action
    assert "." not in action["status"]["startTime"]  # whole seconds


def test_the_name_of_a_run_that_still_has_its_pod_is_answered_with_that_run(
    local_flyte: LocalFlyte,
) -> None:
    first = start(local_flyte, "again", f"date +%N; {WRITE}", "one")
    shown = until(local_flyte, "again", is_in("SUCCEEDED"))
    before = log(local_flyte, "again")
    answer = start(local_flyte, "again", "echo second", "two")
    assert answer["id"] == first["id"]
    assert answer["status"] == shown["status"]
    assert log(local_flyte, "again") == before


def test_runs_that_wait_for_answers_do_not_keep_others_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so two runs are executed at a time
    with LocalFlyte() as flyte:
        for name in ("first", "second"):
            start(flyte, name, "exec sleep 100000")
            until(flyte, name, is_in("RUNNING"))
        start(flyte, "third", WRITE)
        assert until(flyte, "third", bool)["status"]["phase"] == "ACTION_PHASE_QUEUED"
        action = {
            "actionId": {"run": run_id("second"), "name": "asked"},
            "parentActionName": "a0",
            "inputUri": "none",
            "runOutputBase": "none",
            "condition": {"name": "approval", "type": {"simple": "BOOLEAN"}, "prompt": "Go on?"},
        }
        enqueue = "actions.ActionsService/Enqueue"
        answer = call(flyte, enqueue, {"action": action}, person="alice")
        assert answer.status_code == 200, answer.text
        until(flyte, "third", is_in("SUCCEEDED"))


def test_a_log_is_lost_with_its_pod(local_flyte: LocalFlyte) -> None:
    start(local_flyte, "deleted", f"echo said; {WRITE}")
    until(local_flyte, "deleted", is_in("SUCCEEDED"))
    assert log(local_flyte, "deleted") == "said\n"
    local_flyte.delete_pods()
    assert log(local_flyte, "deleted") == "not_found"


def test_the_name_of_an_aborted_run_runs_again_but_its_state_stays(
    local_flyte: LocalFlyte, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"echo $$ >> {pids}; exec sleep 100000"
    abort = "workflow.RunService/AbortRun", {"runId": run_id("aborted")}
    start(local_flyte, "aborted", script)
    until(local_flyte, "aborted", is_in("RUNNING"))
    eventually(pids.exists)
    call(local_flyte, *abort, person="alice")
    shown = until(local_flyte, "aborted", has_reported("ABORTED"))
    assert log(local_flyte, "aborted") == "not_found"

    for _ in range(2):  # the second finds it running
        answer = start(local_flyte, "aborted", script)
        assert answer["status"]["phase"] == "ACTION_PHASE_ABORTED"
    eventually(lambda: len(pids.read_text().splitlines()) == 2)
    process = int(pids.read_text().split()[1])
    os.kill(process, 0)
    assert until(local_flyte, "aborted", bool) == shown

    call(local_flyte, *abort, person="alice")
    eventually(lambda: log(local_flyte, "aborted") == "not_found")
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert len(pids.read_text().splitlines()) == 2


def test_a_report_is_a_page_of_its_own_origin_at_an_address_that_ends(
    local_flyte: LocalFlyte,
) -> None:
    start(local_flyte, "draws", f'{WRITE}; echo "<p>drawn</p>" > "$0/report.html"')
    until(local_flyte, "draws", is_in("SUCCEEDED"))
    source = {"actionAttemptId": {**action_id("draws"), "attempt": 1}}
    request = {"artifactType": "ARTIFACT_TYPE_REPORT", **source}

    def address(**options: str) -> str:
        method = "dataproxy.DataProxyService/CreateDownloadLink"
        answer = call(local_flyte, method, {**request, **options}, person="victor").json()
        return str(answer["preSignedUrls"]["signedUrl"][0])

    with httpx.Client(trust_env=False, timeout=60) as client:
        page = client.get(url := address())
        assert page.text == "<p>drawn</p>\n"
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == "sandbox allow-scripts"
        assert httpx.URL(url).host == "127.0.0.1"
        assert client.put(url, content=b"x").status_code == 403
        assert client.get(f"{url}x").status_code == 403
        assert client.get(address(expiresIn="0s")).status_code == 403


def test_inputs_of_more_than_2_mib_are_not_returned(local_flyte: LocalFlyte) -> None:
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


def test_outputs_are_empty_unless_the_action_has_succeeded(local_flyte: LocalFlyte) -> None:
    data = {}
    for name, script, phase in (
        ("writes", WRITE, "SUCCEEDED"),
        ("fails", f"{WRITE}; exit 1", "FAILED"),
    ):
        start(local_flyte, name, script)
        until(local_flyte, name, is_in(phase))
        data[name] = inputs(local_flyte, name).json()
    assert data["writes"]["outputs"] == data["fails"]["outputs"] == {}
    assert data["writes"]["outputsUri"].endswith("/outputs.pb")
    assert "outputsUri" not in data["fails"]
    call(local_flyte, "workflow.RunService/AbortRun", {"runId": run_id("writes")}, person="alice")
    after = inputs(local_flyte, "writes").json()
    assert after["outputs"] == {}
    assert "outputsUri" not in after


def test_a_run_has_the_organization_in_the_request(local_flyte: LocalFlyte) -> None:
    start(local_flyte, "org", WRITE)
    request = {"runId": {**run_id("org"), "org": "any"}}
    answer = call(local_flyte, DETAILS, request, person="alice").json()
    assert answer["details"]["action"]["id"]["run"]["org"] == "any"
    listed = call(
        local_flyte, "workflow.RunService/ListRuns", {"projectId": PROJECT}, person="alice"
    )
    assert all("org" not in run["action"]["id"]["run"] for run in listed.json()["runs"])


@pytest.mark.parametrize(
    ("filter_", "status"),
    [
        ({"function": "EQUAL", "field": "phase", "values": ["5"]}, 200),
        ({"function": "VALUE_IN", "field": "phase", "values": ["5", "6"]}, 200),
        ({"function": "VALUE_IN", "field": "phase", "values": ["5"]}, 500),
        ({"function": "EQUAL", "field": "trigger_type", "values": ["x"]}, 500),
        ({"function": "EQUAL", "field": "created_by", "values": ["x"]}, 400),
    ],
)
def test_filters_that_flytes_database_does_not_take_fail(
    local_flyte: LocalFlyte, filter_: dict[str, Any], status: int
) -> None:
    for method, scope in (
        ("ListRuns", {"projectId": PROJECT}),
        ("ListActions", {"runId": run_id("any")}),
    ):
        request = {**scope, "request": {"filters": [filter_]}}
        answer = call(local_flyte, f"workflow.RunService/{method}", request, person="alice")
        assert answer.status_code == status, answer.text


def test_an_uploaded_file_cannot_be_replaced(local_flyte: LocalFlyte) -> None:
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


def test_an_upload_needs_its_md5_and_its_url(local_flyte: LocalFlyte) -> None:
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
