"""The local Flyte as the open-source one behind an authenticating proxy, and as its devbox."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.people import signed

from .on_the_wire import PROJECT, call, cli

USER_INFO = "auth.IdentityService/UserInfo"
TASK = """
import flyte

env = flyte.TaskEnvironment(name="open", image="auto")

@env.task
async def double(number: int) -> int:
    return 2 * number

@env.task
async def quadruple(number: int) -> int:
    return await double(await double(number))
"""


@pytest.fixture(scope="module")
def open_flyte(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlyte]:
    """A Flyte without authorization, with a task."""
    yield from with_a_task(LocalFlyte(authorization=False), tmp_path_factory)


@pytest.fixture(scope="module")
def devbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFlyte]:
    """A Flyte without TLS, with a task."""
    yield from with_a_task(LocalFlyte(plaintext=True), tmp_path_factory)


def with_a_task(flyte: LocalFlyte, paths: pytest.TempPathFactory) -> Iterator[LocalFlyte]:
    root = paths.mktemp("open")
    (root / "open.py").write_text(TASK)
    with flyte:
        flyte.deploy(root, "open.py", "env")
        yield flyte


def newest_run(flyte: LocalFlyte, headers: dict[str, str]) -> dict[str, Any]:
    answer = call(flyte, "workflow.RunService/ListRuns", {"projectId": PROJECT}, headers=headers)
    runs: list[dict[str, Any]] = answer.json()["runs"]
    return max(runs, key=lambda run: run["action"]["status"]["startTime"])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Authorization": f"Bearer {PEOPLE['alice'].jwt}"}, "alice@example.com"),
        ({"Authorization": f"Bearer {signed({'sub': 'x', 'email': 'x@y.z'})}"}, "x@y.z"),
    ],
)
def test_the_caller_is_the_subject_of_the_token(
    open_flyte: LocalFlyte, headers: dict[str, str], expected: str
) -> None:
    assert call(open_flyte, USER_INFO, headers=headers).json()["email"] == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {PEOPLE['alice'].token}"},  # opaque
        {"Cookie": PEOPLE["alice"].cookie},
        {"Authorization": f"Bearer {signed({'email': 'x@y.z'})}"},
        {"Authorization": f"Bearer {signed({'sub': 7})}"},
        {"Authorization": f"Bearer {signed({'sub': 'x', 'email': 7})}"},
        {"Authorization": f"Bearer {signed([])}"},
    ],
    ids=["opaque token", "cookie", "no subject", "a number", "a number for an address", "a list"],
)
def test_an_unidentified_caller_is_anonymous_and_may_do_everything(
    open_flyte: LocalFlyte, headers: dict[str, str]
) -> None:
    refusal = call(open_flyte, USER_INFO, headers=headers)
    assert refusal.status_code == 401
    projects = call(open_flyte, "project.ProjectService/ListProjects", headers=headers).json()
    assert [each["id"] for each in projects["projects"]["projects"]] == ["flytesnacks"]
    assert call(
        open_flyte, "task.TaskService/ListTasks", {"projectId": PROJECT}, headers=headers
    ).json()["tasks"]


@pytest.mark.parametrize(
    ("told", "header", "scheme"),
    [
        (True, None, "https"),
        (True, "http", "https"),  # the proxy's word, not its client's
        (False, None, "http"),
        (False, "https", "https"),
        (False, "https, http", "https"),
        (False, "wss", "http"),
    ],
)
def test_the_cluster_has_tls_if_the_proxy_sends_the_header(
    open_flyte: LocalFlyte, told: bool, header: str | None, scheme: str
) -> None:
    headers = {"Authorization": f"Bearer {PEOPLE['alice'].jwt}"}
    if header is not None:
        headers["X-Forwarded-Proto"] = header
    body = {"operation": "OPERATION_UPLOAD_INPUTS", "projectId": PROJECT}
    with contextlib.ExitStack() as stack:
        flyte = open_flyte
        if not told:
            flyte = LocalFlyte(authorization=False, proxied=False)
            stack.enter_context(flyte)
        answer = call(flyte, "cluster.ClusterService/SelectCluster", body, headers=headers).json()
    assert answer["clusterEndpoint"] == flyte.url.replace("https", scheme)


def test_callers_differ_only_in_who_started_a_run(open_flyte: LocalFlyte) -> None:
    cli(open_flyte, "run", "--follow", "deployed-task", "open.double", "--number", "4")
    bob = {"Authorization": f"Bearer {PEOPLE['bob'].jwt}"}
    run = newest_run(open_flyte, bob)["action"]
    assert run["metadata"]["executedBy"]["user"]["id"]["subject"] == PEOPLE["alice"].subject
    aborted = call(
        open_flyte, "workflow.RunService/AbortRun", {"runId": run["id"]["run"]}, headers=bob
    )
    assert aborted.status_code == 200


def test_on_the_devbox_everyone_is_anonymous(devbox: LocalFlyte, tmp_path: Path) -> None:
    alice = {"Authorization": f"Bearer {PEOPLE['alice'].jwt}"}
    assert call(devbox, USER_INFO, headers=alice).status_code == 401
    cli(devbox, "run", "--follow", "deployed-task", "open.quadruple", "--number", "4")
    run = newest_run(devbox, alice)["action"]
    assert run["status"]["phase"] == "ACTION_PHASE_SUCCEEDED"
    assert "executedBy" not in run["metadata"]
    actions = call(devbox, "workflow.RunService/ListActions", {"runId": run["id"]["run"]}).json()
    assert len(actions["actions"]) == 3
