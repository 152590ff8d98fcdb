"""What runs wait for, and their reports: what the conformance cases do not check."""

import os

import httpx
import pytest

from local_flyte import LocalFlyte
from local_flyte.testing import wait_until

from .on_the_wire import PROJECT, call

CREATE = "workflow.RunService/CreateRun"
DETAILS = "workflow.RunService/GetRunDetails"
WRITE = 'mkdir -p "$0" && : > "$0/outputs.pb"'
"""What an SDK task does before it ends successfully."""


def run_id(name: str) -> dict[str, str]:
    return {"project": PROJECT["name"], "domain": PROJECT["domain"], "name": name}


def start(flyte: LocalFlyte, name: str, script: str) -> None:
    """Start a run with this name, whose task is a shell script."""
    container = {"command": ["sh", "-c", script, "{{.outputPrefix}}"]}
    spec = {"taskTemplate": {"interface": {}, "container": container}}
    request = {"runId": run_id(name), "taskSpec": spec, "inputs": {}}
    answer = call(flyte, CREATE, request, person="alice")
    assert answer.status_code == 200, answer.text


def phase_of(flyte: LocalFlyte, name: str) -> str:
    answer = call(flyte, DETAILS, {"runId": run_id(name)}, person="bob").json()
    return str(answer["details"]["action"]["status"]["phase"].removeprefix("ACTION_PHASE_"))


def until(flyte: LocalFlyte, name: str, phase: str) -> None:
    """Wait until the run's action is in a phase."""
    wait_until(lambda: phase_of(flyte, name) == phase)


def test_runs_that_wait_for_answers_do_not_keep_others_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so two runs are executed at a time
    with LocalFlyte() as flyte:
        for name in ("first", "second"):
            start(flyte, name, "exec sleep 100000")
            until(flyte, name, "RUNNING")
        start(flyte, "third", WRITE)
        assert phase_of(flyte, "third") == "QUEUED"
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
        until(flyte, "third", "SUCCEEDED")


def test_a_report_is_a_page_of_its_own_origin_at_a_signed_address(
    local_flyte: LocalFlyte,
) -> None:
    start(local_flyte, "draws", f'{WRITE}; echo "<p>drawn</p>" > "$0/report.html"')
    until(local_flyte, "draws", "SUCCEEDED")
    attempt = {"actionId": {"run": run_id("draws"), "name": "a0"}, "attempt": 1}
    request = {"artifactType": "ARTIFACT_TYPE_REPORT", "actionAttemptId": attempt}
    method = "dataproxy.DataProxyService/CreateDownloadLink"
    answer = call(local_flyte, method, request, person="victor").json()
    (url,) = answer["preSignedUrls"]["signedUrl"]
    with httpx.Client(trust_env=False, timeout=60) as client:
        page = client.get(url)
        assert page.text == "<p>drawn</p>\n"
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == "sandbox allow-scripts"
        assert httpx.URL(url).host == "127.0.0.1"
        assert client.put(url, content=b"x").status_code == 403
        assert client.get(f"{url}x").status_code == 403
