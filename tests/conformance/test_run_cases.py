"""Conformance cases for runs: start, end, data, logs, lists and actions."""

import re
import time
from typing import Any

import pytest
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateDownloadLinkRequest, UploadInputsRequest
from flyteidl2.task.common_pb2 import Outputs
from flyteidl2.workflow.run_definition_pb2 import ACTION_TYPE_TASK, ErrorInfo

from .client import Flyte, Person, code_of, fields, inputs, literal, phase_of, where

pytestmark = pytest.mark.usefixtures("deployed")


def test_abort_of_succeeded_run_removes_outputs_and_log(flyte: Flyte, alice: Person) -> None:
    run = alice.start("succeeds", x=1)
    assert re.fullmatch("r[a-z0-9]{19}", run.name)
    *_, last = alice.watch(run)  # it ends when the last attempt has
    assert [phase_of(attempt) for attempt in last.attempts] == ["SUCCEEDED"]
    alice.until("SUCCEEDED", run)
    (again,) = alice.watch(run)
    assert phase_of(again) == "SUCCEEDED"
    action = alice.details(run).action
    assert (action.id.name, action.id.run.org) == ("a0", flyte.place["org"])
    assert fields(action.status) >= {"start_time", "end_time", "duration_ms"}
    assert (action.status.attempts, action.attempts[0].attempt) == (1, 1)
    assert not fields(action) & {"error_info", "abort_info"}
    task = action.metadata.task.id
    assert (task.org, task.name, task.version) == ("", "conformance.succeeds", flyte.version)
    values = alice.values(run)
    assert values.inputs == inputs(x=1)
    assert values.inputs_uri.endswith("/inputs.pb")
    (output,) = values.outputs.literals
    assert (output.name, output.value) == ("o0", literal(1))
    assert values.outputs_uri.endswith("/outputs.pb")

    (listed,), token = alice.list_runs(
        where("run_name", run.name),
        where("phase", "5", "6", function="VALUE_IN"),  # succeeded, failed
        where("task_name", "conformance.succeeds"),
        where("task_version", flyte.version),
        where("created_at", "2026-01-01T00:00:00Z", function="GREATER_THAN_OR_EQUAL"),
        where("updated_at", "2126-01-01T00:00:00Z", function="LESS_THAN"),
        limit=1,
    )
    assert (listed.id.run.name, token) == (run.name, "")  # there is no page after the last
    assert alice.list_runs(where("run_name", run.name), where("phase", "6")) == ([], "")

    assert "hello" in alice.log(run)
    alice.abort(run)
    action = alice.action(run)
    assert (phase_of(action), phase_of(action.attempts[0])) == ("ABORTED", "SUCCEEDED")
    assert action.abort_info.reason == "User requested abort"  # no reason was sent
    alice.abort(run, "")
    assert alice.action(run).abort_info.reason == ""
    values = alice.values(run)
    assert (values.outputs, values.outputs_uri) == (Outputs(), "")
    flyte.until(lambda: code_of(alice.log, run) == "not_found")


def test_runs_are_shared_between_users(
    flyte: Flyte, alice: Person, bob: Person, unique: str, request: pytest.FixtureRequest
) -> None:
    """All users may list, get and abort these runs, but a viewer may not abort them."""
    named = {"run_id": flyte.run(unique), "task_id": flyte.task("endless"), "inputs": inputs()}
    first = alice.create(**named)
    started = alice.until("RUNNING", first).status.start_time
    assert bob.create(**named) == first
    others = [bob]
    if flyte.kind == "union":
        others.append(victor := request.getfixturevalue("victor"))
        assert code_of(victor.start, "endless") == "permission_denied"
        assert code_of(victor.abort, first) == "permission_denied"
    for person in others:
        action = person.action(first)
        assert (phase_of(action), action.status.start_time) == ("RUNNING", started)
    later = time.monotonic() + 3  # a start time has whole seconds, and may move back by one
    flyte.until(lambda: time.monotonic() > later)
    second = alice.start("endless")
    alice.until("RUNNING", second)
    both = where("run_name", first.name, second.name, function="VALUE_IN")
    newest_first = {"key": "created_at", "direction": "DESCENDING"}
    page: dict[str, Any] = {"limit": 1, "sort_by": newest_first}
    (newest,), token = alice.list_runs(both, **page)
    (oldest,), last = alice.list_runs(both, **page, token=token)
    assert (newest.id.run.name, oldest.id.run.name) == (second.name, first.name)
    assert (newest.id.run.org, token, last) == ("", "1", "")
    if flyte.kind != "devbox":
        subject = alice.identity.user_info(UserInfoRequest()).subject
        assert alice.action(first).metadata.executed_by.user.id.subject == subject
        own, _ = alice.list_runs(both, where("created_by_subject", subject))
        assert {run.id.run.name for run in own} == {first.name, second.name}
    bob.abort(first, "enough")
    action = alice.action(first)
    assert phase_of(action) == "ABORTED"
    assert action.status.HasField("end_time")
    assert fields(action.abort_info) == {"reason"}
    assert action.abort_info.reason == "enough"
    *_, last_message = alice.watch(first)  # it ends when the executor has reported the end
    assert (phase_of(last_message), phase_of(last_message.attempts[0])) == ("ABORTED", "ABORTED")


def test_each_attempt_has_its_own_log(flyte: Flyte, alice: Person) -> None:
    """Only the last attempt has an end and an error."""
    run = alice.start("fails", x=9)
    action = alice.until("FAILED", run)
    assert "on purpose" in action.error_info.message
    assert (action.error_info.kind, action.error_info.code) == (ErrorInfo.KIND_USER, "")
    assert [attempt.attempt for attempt in action.attempts] == [1, 2, 3]
    assert action.status.attempts == 3
    *earlier, last = action.attempts
    assert "on purpose" in last.error_info.message
    for attempt in earlier:
        assert fields(attempt) & {"start_time", "end_time", "error_info"} == {"start_time"}
    assert fields(last) & {"start_time", "end_time"} == {"start_time", "end_time"}
    log = alice.log(run, attempt=3)
    assert "attempt 3" in log
    assert "attempt 2" not in log
    if flyte.kind == "union":
        assert "attempt 2" in alice.log(run, attempt=2)
    else:  # the log is deleted with the pod
        flyte.until(lambda: code_of(alice.log, run, attempt=2) == "not_found")
    assert code_of(alice.log, run, attempt=4) == "not_found"
    values = alice.values(run)
    assert (values.inputs, values.outputs) == (inputs(x=9), Outputs())
    assert values.inputs_uri
    assert not values.outputs_uri


def test_create_run_with_invalid_name_or_project_fails(
    flyte: Flyte, alice: Person, unique: str
) -> None:
    task = {"task_id": flyte.task("endless"), "inputs": inputs()}
    for name in ("a234567890123456789012345678901", "1a", "a-"):
        assert code_of(alice.create, run_id=flyte.run(name), **task) == "invalid_argument"
    (project := flyte.scope).name = unique
    assert code_of(alice.create, project_id=project, **task) == "not_found"


def test_inputs_over_2_mib_are_not_returned(flyte: Flyte, alice: Person) -> None:
    """Such inputs are uploaded first, and a hash identifies them."""
    large, task = inputs(x="x" * 2 * 2**20), flyte.task("endless")
    request = UploadInputsRequest(project_id=flyte.scope, task_id=task, inputs=large)
    uploaded = alice.data.upload_inputs(request).offloaded_input_data
    assert not uploaded.uri.endswith("b")  # a folder, not inputs.pb
    assert re.fullmatch("[-_A-Za-z0-9]{11}", uploaded.inputs_hash)
    run = alice.create(project_id=flyte.scope, task_id=task, offloaded_input_data=uploaded)
    assert code_of(alice.values, run) == "internal"


# Runs with children


def test_child_actions_are_listed_and_watched(
    flyte: Flyte, alice: Person, request: pytest.FixtureRequest
) -> None:
    """A list contains parents, a watch also contains tasks, and a report has a signed URL."""
    run = alice.start("family", x=1)
    alice.until("SUCCEEDED", run)
    child = alice.child(run)
    (root,) = (action for action in alice.actions(run) if action.id.name == "a0")
    assert (root.metadata.parent, root.metadata.group) == ("", "")
    assert (child.metadata.parent, child.metadata.group) == ("a0", "pair")
    for action in (root, child):  # a list leaves out what kind of action it is
        assert not fields(action.metadata) & {"action_type", "task", "funtion_name"}
        assert (phase_of(action), action.status.attempts) == ("SUCCEEDED", 1)

    details = alice.until("SUCCEEDED", run, child.id.name)
    assert details.id.run.org == flyte.place["org"]
    metadata = details.metadata
    assert (metadata.parent, metadata.group) == ("a0", "pair")
    assert metadata.action_type == ACTION_TYPE_TASK
    assert (metadata.task.short_name, metadata.task.id.name) == ("succeeds", "conformance.succeeds")
    (attempt,) = details.attempts
    phases = {phase_of(change): change for change in attempt.phase_transitions}
    for phase in ("QUEUED", "SUCCEEDED"):
        assert fields(phases[phase]) >= {"start_time", "end_time"}

    watched = next(alice.watch_all(run))  # it goes on after the run's end
    for name, expected in (("a0", ("", "", "family")), (child.id.name, ("a0", "pair", "succeeds"))):
        enriched, metadata = watched[name], watched[name].action.metadata
        assert enriched.meets_filter
        assert (metadata.parent, metadata.group, metadata.task.short_name) == expected
        assert (phase_of(enriched.action), enriched.action.status.attempts) == ("SUCCEEDED", 1)

    def link(person: Person, action: str = "a0", attempt: int = 1, kind: str = "REPORT") -> Any:
        of = {"action_id": ActionIdentifier(run=run, name=action), "attempt": attempt}
        return person.data.create_download_link(
            CreateDownloadLinkRequest(artifact_type=f"ARTIFACT_TYPE_{kind}", action_attempt_id=of)
        ).pre_signed_urls

    report = link(request.getfixturevalue("victor" if flyte.kind == "union" else "bob"))
    assert report.signed_url[0].startswith(("http://", "https://"))
    assert report.HasField("expires_at")
    assert code_of(link, alice, attempt=2) == "not_found"
    assert code_of(link, alice, child.id.name) == "not_found"  # though there is a URI
    assert alice.action(run, child.id.name).attempts[0].outputs.report_uri.endswith("report.html")
    assert code_of(link, alice, kind="CODE_BUNDLE") == "invalid_argument"
    if flyte.kind == "union":
        assert code_of(link, request.getfixturevalue("carol")) == "permission_denied"


@pytest.mark.weekly  # an endpoint's test does it, too
def test_recover_reuses_succeeded_actions_on_union(flyte: Flyte, alice: Person) -> None:
    run = alice.start("family", x=0)
    alice.until("FAILED", run)
    child = alice.child(run).id.name
    named = {"project_id": flyte.scope, "task_id": flyte.task("family"), "inputs": inputs(x=0)}
    relation = {"related_to": run, "relation_type": "RELATION_TYPE_RECOVER"}
    again = alice.create(**named, run_spec={"relation": relation})
    alice.until("FAILED", again)
    action = alice.action(again, child)
    assert phase_of(action) == ("RECOVERED" if flyte.kind == "union" else "SUCCEEDED")
    assert alice.values(again, child).outputs.literals[0].value == literal(0)
