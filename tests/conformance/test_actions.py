"""Runs with children: their actions, a report, and what a recovered run takes over."""

from typing import Any

import pytest
from flyteidl2.common.identifier_pb2 import ActionIdentifier
from flyteidl2.dataproxy.dataproxy_service_pb2 import CreateDownloadLinkRequest
from flyteidl2.workflow.run_definition_pb2 import ACTION_TYPE_TASK

from .client import Flyte, Person, code_of, fields, inputs, literal, phase_of

pytestmark = pytest.mark.usefixtures("deployed")


def test_a_list_of_actions_has_parents_and_groups_and_a_watch_also_tasks(
    flyte: Flyte, alice: Person
) -> None:
    run = alice.start("family", x=1)
    alice.until("SUCCEEDED", run)
    root, child = alice.actions(run)
    assert root.id.name == "a0"
    assert (root.metadata.parent, root.metadata.group) == ("", "")
    assert (child.metadata.parent, child.metadata.group) == ("a0", "pair")
    for action in (root, child):  # a list leaves out what kind of action it is
        assert not fields(action.metadata) & {"action_type", "task", "funtion_name"}
        assert (phase_of(action), action.status.attempts) == ("SUCCEEDED", 1)
        assert fields(action.status) >= {"start_time", "end_time"}

    details = flyte.until(
        lambda: alice.action(run, child.id.name), lambda known: known.attempts[0].cluster_events
    )
    assert details.id.run.org == flyte.place["org"]
    known = details.metadata
    assert (known.parent, known.group, known.action_type) == ("a0", "pair", ACTION_TYPE_TASK)
    assert (known.task.short_name, known.task.id.name) == ("succeeds", "conformance.succeeds")
    (attempt,) = details.attempts
    events = {event.message: event for event in attempt.cluster_events}
    assert events["task submitted to K8s"].HasField("occurred_at")
    phases = {phase_of(change): change for change in attempt.phase_transitions}
    for phase in ("QUEUED", "SUCCEEDED"):
        assert fields(phases[phase]) >= {"start_time", "end_time"}

    watched = next(alice.watch_all(run))  # it goes on after the run's end
    root_now, child_now = watched["a0"], watched[child.id.name]
    assert dict(root_now.children_phase_counts) == {5: 1}
    assert dict(child_now.children_phase_counts) == {}
    for enriched, parent, group, task in (
        (root_now, "", "", "family"),
        (child_now, "a0", "pair", "succeeds"),
    ):
        assert enriched.meets_filter
        known = enriched.action.metadata
        assert (known.parent, known.group, known.task.short_name) == (parent, group, task)
        assert (phase_of(enriched.action), enriched.action.status.attempts) == ("SUCCEEDED", 1)


def test_a_report_has_a_signed_address_for_everybody_who_may_see_the_run(
    flyte: Flyte, alice: Person, request: pytest.FixtureRequest
) -> None:
    run = alice.start("family", x=1)
    alice.until("SUCCEEDED", run)

    def link(person: Person, action: str = "a0", attempt: int = 1, kind: str = "REPORT") -> Any:
        of = {"action_id": ActionIdentifier(run=run, name=action), "attempt": attempt}
        return person.data.create_download_link(
            CreateDownloadLinkRequest(artifact_type=f"ARTIFACT_TYPE_{kind}", action_attempt_id=of)
        ).pre_signed_urls

    others = ["bob", "victor"] if flyte.kind == "union" else ["bob"]
    for person in (alice, *map(request.getfixturevalue, others)):
        report = link(person)
        assert report.signed_url[0].startswith(("http://", "https://"))
        assert report.HasField("expires_at")
    assert code_of(link, alice, attempt=2) == "not_found"
    child = alice.actions(run)[1].id.name
    assert code_of(link, alice, child) == "not_found"  # though there is a URI
    assert alice.action(run, child).attempts[0].outputs.report_uri.endswith("report.html")
    assert code_of(link, alice, kind="CODE_BUNDLE") == "invalid_argument"
    if flyte.kind == "union":
        assert code_of(link, request.getfixturevalue("carol")) == "permission_denied"


def test_recovering_a_run_takes_over_what_has_succeeded_only_on_union(
    flyte: Flyte, alice: Person
) -> None:
    run = alice.start("family", x=0)
    alice.until("FAILED", run)
    child = alice.actions(run)[1].id.name
    relation = {"related_to": run, "relation_type": "RELATION_TYPE_RECOVER"}
    again = alice.create(
        project_id=flyte.scope,
        task_id=flyte.task("family"),
        inputs=inputs(x=0),
        run_spec={"relation": relation},
    )
    alice.until("FAILED", again)
    action = alice.action(again, child)
    if flyte.kind == "union":
        assert phase_of(action) == "RECOVERED"
        taken_from = action.metadata.recovered_from
        assert (taken_from.run.name, taken_from.name) == (run.name, child)
    else:
        assert phase_of(action) == "SUCCEEDED"
        assert not action.metadata.HasField("recovered_from")
    assert alice.values(again, child).outputs.literals[0].value == literal(0)
