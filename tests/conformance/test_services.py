"""What needs no run: who calls, projects, tasks, uploads, lists."""

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from flyteidl2.cluster.payload_pb2 import SelectClusterRequest
from flyteidl2.common.list_pb2 import Filter, ListRequest
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.project.project_service_pb2 import (
    GetProjectRequest,
    ListProjectsRequest,
    ListProjectsResponse,
)
from flyteidl2.task import task_service_pb2 as tasks
from flyteidl2.task.task_definition_pb2 import TaskIdentifier

from .client import Flyte, Person, code_of, where


@pytest.mark.only("union", "open-source")
def test_a_caller_gets_their_identity(flyte: Flyte, alice: Person) -> None:
    known = alice.identity.user_info(UserInfoRequest())
    assert known.subject
    assert not known.preferred_username
    if flyte.kind == "union":  # elsewhere, a JWT may have no other claims
        assert known.name
        assert re.fullmatch(".+@.+", known.email)


def test_nobody_is_known_by_a_token_that_is_not_valid_or_none(
    flyte: Flyte, request: pytest.FixtureRequest
) -> None:
    people = [Person(flyte, "of-nobody"), Person(flyte, None)]
    if flyte.kind == "union":
        people.append(request.getfixturevalue("expired"))
    for person in people:
        assert code_of(person.identity.user_info, UserInfoRequest()) == "unauthenticated"
        if flyte.kind == "union":
            listed = code_of(person.projects.list_projects, ListProjectsRequest())
            assert listed == "unauthenticated"


def list_projects(person: Person, **request: Any) -> tuple[list[str], str]:
    answer: ListProjectsResponse = person.projects.list_projects(ListProjectsRequest(**request))
    return [project.id for project in answer.projects.projects], answer.projects.token


def test_the_project_has_three_domains_and_is_found_as_the_sdk_asks_for_it(
    flyte: Flyte, alice: Person, unique: str
) -> None:
    project = alice.projects.get_project(GetProjectRequest(id=flyte.project)).project
    assert project.id == flyte.project
    assert {domain.id for domain in project.domains} >= {"development", "production", "staging"}
    assert code_of(alice.projects.get_project, GetProjectRequest(id=unique)) == "not_found"
    first = {"key": "created_at", "direction": "ASCENDING"}
    assert flyte.project in list_projects(alice, filters="eq(state, 0)", sort_by=first)[0]
    assert flyte.project not in list_projects(alice, filters="eq(state, 1)")[0]  # archived
    assert list_projects(alice, filters=f"eq(name,{unique})+eq(state, 0)") == ([], "")
    # A full page has a token even if it is the last.
    one: dict[str, Any] = {"limit": 1, "filters": f"eq(name,{project.name})"}
    assert list_projects(alice, **one) == ([flyte.project], "1")
    assert list_projects(alice, **one, token="1") == ([], "")
    list_projects(alice, limit=201)
    assert code_of(list_projects, alice, token="x") == "invalid_argument"


def test_the_cluster_has_the_host_that_the_caller_used(flyte: Flyte, alice: Person) -> None:
    operation = SelectClusterRequest.OPERATION_UPLOAD_INPUTS
    request = SelectClusterRequest(operation=operation, project_id=flyte.scope)
    cluster = urlsplit(alice.clusters.select_cluster(request).cluster_endpoint)
    assert cluster.scheme in {"http", "https"}
    assert cluster.netloc == urlsplit(flyte.url).netloc


def upload(flyte: Flyte, **fields: Any) -> data.CreateUploadLocationRequest:
    of_nothing = hashlib.md5(b"").digest()
    request = {**flyte.place, "filename": "a.txt", "content_md5": of_nothing}
    return data.CreateUploadLocationRequest(**request | fields)


def test_an_upload_has_a_signed_address_headers_and_limits(
    flyte: Flyte, alice: Person, unique: str
) -> None:
    location = alice.data.create_upload_location(upload(flyte))
    assert location.signed_url.startswith(("http:", "https:"))
    assert location.native_url.endswith("/a.txt")
    assert location.HasField("expires_at")
    assert location.headers["Content-MD5"] == "1B2M2Y8AsgTpgAmY7PhCfg=="
    with_root = upload(flyte, content_md5=b"", filename_root=unique)
    location = alice.data.create_upload_location(with_root)
    assert location.native_url.endswith(f"{unique}/a.txt")
    for fields, code in (
        ({"content_md5": b""}, "invalid_argument"),
        ({"expires_in": {"seconds": 3601}}, "invalid_argument"),
        ({"project": unique}, "not_found"),
    ):
        assert code_of(alice.data.create_upload_location, upload(flyte, **fields)) == code


def deployment(flyte: Flyte, name: str, version: str = "v1", **place: str) -> Any:
    container = {"image": "busybox:1.37", "command": ["sh", "-c", "exit 0"]}
    template = {"type": "raw-container", "interface": {}, "container": container}
    return tasks.DeployTaskRequest(
        task_id=TaskIdentifier(**flyte.place | place, name=name, version=version),
        spec={"task_template": template},
    )


def list_tasks(person: Person, *filters: Filter, **of: Any) -> tuple[list[tuple[str, str]], str]:
    """Return the names and versions of a page of tasks, and the token of the next page."""
    page = ListRequest(filters=filters, **of)
    request = tasks.ListTasksRequest(project_id=person.flyte.scope, request=page)
    answer = person.tasks.list_tasks(request)
    return [(task.task_id.name, task.task_id.version) for task in answer.tasks], answer.token


def test_a_version_that_is_deployed_again_does_not_become_the_latest(
    flyte: Flyte, alice: Person, unique: str
) -> None:
    request = deployment(flyte, unique)
    ask = tasks.GetTaskDetailsRequest(task_id=request.task_id)
    assert code_of(alice.tasks.get_task_details, ask) == "not_found"
    for version in ("v1", "v2", "v1"):
        alice.tasks.deploy_task(deployment(flyte, unique, version))
    task = alice.tasks.get_task_details(ask).details
    assert (task.task_id.org, task.task_id.name, task.task_id.version) == ("", unique, "v1")
    of_this_name = where("name", unique)
    assert list_tasks(alice, of_this_name) == ([(unique, "v2")], "")
    assert list_tasks(alice, of_this_name, where("version", "v1")) == ([(unique, "v1")], "")
    elsewhere = deployment(flyte, unique, project=unique)
    assert code_of(alice.tasks.deploy_task, elsewhere) == "not_found"


def test_tasks_are_found_by_a_part_of_their_name_and_sorted_in_pages(
    flyte: Flyte, alice: Person, unique: str
) -> None:
    for name in (f"{unique}-a", f"{unique}-b", f"{unique}-a"):
        alice.tasks.deploy_task(deployment(flyte, name))
    of_both = where("name", unique, function="CONTAINS")
    newest_first = {"key": "created_at", "direction": "DESCENDING"}
    page: dict[str, Any] = {"limit": 1, "sort_by": newest_first}
    assert list_tasks(alice, of_both, **page) == ([(f"{unique}-b", "v1")], "1")
    # A full page has a token even if it is the last.
    assert list_tasks(alice, of_both, **page, token="1") == ([(f"{unique}-a", "v1")], "2")
    assert list_tasks(alice, of_both, **page, token="2") == ([], "")


def test_lists_with_other_limits_tokens_and_fields_are_refused(alice: Person) -> None:
    pages: list[dict[str, Any]] = [{"limit": 201}, {"token": "x"}]
    for page in pages:
        assert code_of(list_tasks, alice, **page) == "invalid_argument"
        assert code_of(alice.list_runs, **page) == "invalid_argument"
    assert code_of(alice.list_runs, where("created_by", "x")) == "invalid_argument"


@pytest.mark.only("open-source", "devbox")
def test_one_phase_is_a_filter_with_equal_and_several_with_value_in(alice: Person) -> None:
    assert code_of(alice.list_runs, where("phase", "5", function="VALUE_IN")) == "internal"
    recovered = where("phase", "1", "0")  # as the SDK sends it, though its number is 10
    assert code_of(alice.list_runs, recovered) == "internal"
    alice.list_runs(where("phase", "10"))


def test_a_run_that_does_not_exist_is_not_found(flyte: Flyte, alice: Person, unique: str) -> None:
    run = flyte.run(unique)
    for ask in (alice.details, alice.abort, alice.action, alice.values, alice.log):
        assert code_of(ask, run) == "not_found"
    assert code_of(next, alice.watch(run)) == "not_found"
    assert alice.actions(run) == []


@pytest.mark.only("union")
def test_a_viewer_cannot_deploy_or_upload_and_who_has_no_rights_sees_nothing(
    flyte: Flyte, victor: Person, carol: Person, unique: str
) -> None:
    assert flyte.project not in list_projects(carol)[0]
    assert code_of(carol.list_runs) == "permission_denied"
    assert code_of(victor.tasks.deploy_task, deployment(flyte, unique)) == "permission_denied"
    assert code_of(victor.data.create_upload_location, upload(flyte)) == "permission_denied"
