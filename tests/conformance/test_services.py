"""Conformance cases without runs: identity, projects, tasks, uploads and lists."""

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from flyteidl2.auth.identity_pb2 import UserInfoRequest
from flyteidl2.cluster.payload_pb2 import SelectClusterRequest
from flyteidl2.common.list_pb2 import Filter, ListRequest
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.project.project_service_pb2 import GetProjectRequest, ListProjectsRequest
from flyteidl2.task import task_service_pb2 as tasks
from flyteidl2.task.task_definition_pb2 import TaskIdentifier

from .client import Flyte, Person, code_of, where


@pytest.mark.only("union", "open-source")
def test_user_info_returns_identity_of_caller(flyte: Flyte, alice: Person) -> None:
    user = alice.identity.user_info(UserInfoRequest())
    assert user.subject
    if flyte.kind == "union":  # elsewhere, a JWT may have no other claims
        assert user.name
        assert re.fullmatch(".+@.+", user.email)


def test_missing_or_invalid_token_is_unauthenticated(
    flyte: Flyte, request: pytest.FixtureRequest
) -> None:
    people = [Person(flyte, "unknown-token"), Person(flyte, None)]
    if flyte.kind == "union":
        people.append(request.getfixturevalue("expired"))
    for person in people:
        assert code_of(person.identity.user_info, UserInfoRequest()) == "unauthenticated"
        if flyte.kind == "union":
            assert code_of(list_projects, person) == "unauthenticated"


def list_projects(person: Person, state: int = 0) -> list[str]:
    """Return active (0) or archived (1) projects, with the filters that the SDK sends."""
    first: dict[str, Any] = {"key": "created_at", "direction": "ASCENDING"}
    request = ListProjectsRequest(limit=100, filters=f"eq(state, {state})", sort_by=first)
    return [project.id for project in person.projects.list_projects(request).projects.projects]


def test_project_has_three_domains(flyte: Flyte, alice: Person, unique: str) -> None:
    """The project is listed with the filters that the SDK sends."""
    project = alice.projects.get_project(GetProjectRequest(id=flyte.project)).project
    assert project.id == flyte.project
    assert {domain.id for domain in project.domains} >= {"development", "production", "staging"}
    assert code_of(alice.projects.get_project, GetProjectRequest(id=unique)) == "not_found"
    assert flyte.project in list_projects(alice)
    assert flyte.project not in list_projects(alice, state=1)


def test_select_cluster_returns_request_host(flyte: Flyte, alice: Person) -> None:
    operation = SelectClusterRequest.OPERATION_UPLOAD_INPUTS
    request = SelectClusterRequest(operation=operation, project_id=flyte.scope)
    cluster = urlsplit(alice.clusters.select_cluster(request).cluster_endpoint)
    assert cluster.scheme in {"http", "https"}
    assert cluster.netloc == urlsplit(flyte.url).netloc


def upload(flyte: Flyte, **fields: Any) -> data.CreateUploadLocationRequest:
    of_nothing = hashlib.md5(b"").digest()
    request = {**flyte.place, "filename": "a.txt", "content_md5": of_nothing}
    return data.CreateUploadLocationRequest(**request | fields)


def test_upload_location_has_signed_url_and_headers(
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
    accented = alice.data.create_upload_location(upload(flyte, filename="Gr\u00f6\u00dfe.txt"))
    assert accented.native_url.endswith("/Gr%C3%B6%C3%9Fe.txt")
    without_name, elsewhere = upload(flyte, content_md5=b""), upload(flyte, project=unique)
    assert code_of(alice.data.create_upload_location, without_name) == "invalid_argument"
    assert code_of(alice.data.create_upload_location, elsewhere) == "not_found"


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
    response = person.tasks.list_tasks(request)
    return [(task.task_id.name, task.task_id.version) for task in response.tasks], response.token


def test_list_tasks_returns_latest_versions(flyte: Flyte, alice: Person, unique: str) -> None:
    """Deploying an old version again does not make it the latest."""
    first, second = f"{unique}-a", f"{unique}-b"
    request = deployment(flyte, first)
    ask = tasks.GetTaskDetailsRequest(task_id=request.task_id)
    assert code_of(alice.tasks.get_task_details, ask) == "not_found"
    for name, version in ((first, "v1"), (first, "v2"), (second, "v1"), (first, "v1")):
        alice.tasks.deploy_task(deployment(flyte, name, version))
    task = alice.tasks.get_task_details(ask).details.task_id
    assert (task.org, task.name, task.version) == ("", first, "v1")
    assert list_tasks(alice, where("name", first))[0] == [(first, "v2")]
    assert list_tasks(alice, where("name", first), where("version", "v1"))[0] == [(first, "v1")]
    of_both = where("name", unique, function="CONTAINS")
    newest_first = {"key": "created_at", "direction": "DESCENDING"}
    page: dict[str, Any] = {"limit": 1, "sort_by": newest_first}
    assert list_tasks(alice, of_both, **page) == ([(second, "v1")], "1")
    assert list_tasks(alice, of_both, **page, token="1")[0] == [(first, "v2")]
    elsewhere = deployment(flyte, unique, project=unique)
    assert code_of(alice.tasks.deploy_task, elsewhere) == "not_found"


def test_list_with_invalid_page_or_filter_fails(alice: Person) -> None:
    pages: list[dict[str, Any]] = [{"limit": 201}, {"token": "x"}]
    for page in pages:
        assert code_of(list_tasks, alice, **page) == "invalid_argument"
        assert code_of(alice.list_runs, **page) == "invalid_argument"
    assert code_of(alice.list_runs, where("created_by", "x")) == "invalid_argument"


@pytest.mark.only("open-source", "devbox")
def test_value_in_filter_with_one_phase_fails(alice: Person) -> None:
    """The filter accepts several values with VALUE_IN."""
    assert code_of(alice.list_runs, where("phase", "5", function="VALUE_IN")) == "internal"
    recovered = where("phase", "1", "0")  # as the SDK sends it, though its number is 10
    assert code_of(alice.list_runs, recovered) == "internal"
    alice.list_runs(where("phase", "10"))


def test_missing_run_is_not_found(flyte: Flyte, alice: Person, unique: str) -> None:
    run = flyte.run(unique)
    for ask in (alice.details, alice.abort, alice.action, alice.values, alice.log):
        assert code_of(ask, run) == "not_found"
    assert code_of(next, alice.watch(run)) == "not_found"
    assert alice.actions(run) == []


@pytest.mark.only("union")
def test_rights_limit_deploy_upload_and_list(
    flyte: Flyte, victor: Person, carol: Person, unique: str
) -> None:
    """A viewer cannot deploy or upload; a user without rights sees nothing."""
    assert flyte.project not in list_projects(carol)
    assert code_of(carol.list_runs) == "permission_denied"
    assert code_of(victor.tasks.deploy_task, deployment(flyte, unique)) == "permission_denied"
    assert code_of(victor.data.create_upload_location, upload(flyte)) == "permission_denied"
