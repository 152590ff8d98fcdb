import os
import subprocess
import sys

import pytest

from local_flyte import PEOPLE, LocalFlyte

from .on_the_wire import PROJECT, call

LIST_RUNS = {"projectId": PROJECT}


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("kind", ["token", "cookie"])
def test_people_are_told_apart_by_token_and_by_cookie(
    local_flyte: LocalFlyte, name: str, kind: str
) -> None:
    person = PEOPLE[name]
    headers = {
        "token": {"Authorization": f"Bearer {person.token}"},
        "cookie": {"Cookie": f"theme=dark; {person.cookie}"},
    }[kind]
    answer = call(local_flyte, "auth.IdentityService/UserInfo", headers=headers).json()
    assert answer["subject"] == person.subject
    assert answer["email"] == person.email


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer no-such-token"},
        {"Authorization": PEOPLE["alice"].token},
        {"Authorization": f"Bearer {PEOPLE['expired'].token}"},
        {"Cookie": PEOPLE["expired"].cookie},
        {"Cookie": PEOPLE["alice"].token},
    ],
)
def test_invalid_credentials_are_refused(local_flyte: LocalFlyte, headers: dict[str, str]) -> None:
    for method in ("auth.IdentityService/UserInfo", "project.ProjectService/ListProjects"):
        refusal = call(local_flyte, method, headers=headers)
        assert refusal.status_code == 401
        assert refusal.json()["code"] == "unauthenticated"
        assert all(value not in refusal.text for value in headers.values())


def test_a_person_without_rights_is_identified_but_sees_nothing(
    local_flyte: LocalFlyte,
) -> None:
    assert call(local_flyte, "auth.IdentityService/UserInfo", person="carol").status_code == 200
    assert call(local_flyte, "project.ProjectService/ListProjects", person="carol").json() == {
        "projects": {}
    }
    for method, body in (
        ("workflow.RunService/ListRuns", LIST_RUNS),
        ("task.TaskService/ListTasks", {}),
        ("workflow.RunService/CreateRun", {}),
        ("workflow.RunService/GetRunDetails", {}),
        ("app.AppService/Create", {}),
    ):
        refusal = call(local_flyte, method, body, person="carol")
        assert refusal.status_code == 403, method
        assert refusal.json()["code"] == "permission_denied"


def test_a_viewer_sees_everything_and_changes_nothing(local_flyte: LocalFlyte) -> None:
    for method, body in (
        ("workflow.RunService/ListRuns", LIST_RUNS),
        ("task.TaskService/ListTasks", {"projectId": PROJECT}),
    ):
        assert call(local_flyte, method, body, person="victor").status_code == 200, method
    for method in (
        "workflow.RunService/CreateRun",
        "workflow.RunService/AbortRun",
        "workflow.RunService/AbortAction",
        "dataproxy.DataProxyService/UploadInputs",
        "dataproxy.DataProxyService/CreateUploadLocation",
        "task.TaskService/DeployTask",
        "app.AppService/Create",
        "app.AppService/Update",
        "app.AppService/Delete",
    ):
        assert call(local_flyte, method, person="victor").status_code == 403, method


def test_an_unknown_service_is_refused_by_name(local_flyte: LocalFlyte) -> None:
    refusal = call(local_flyte, "secret.SecretService/ListSecrets", person="alice").json()
    assert refusal["code"] == "unimplemented"
    assert "secret.SecretService/ListSecrets" in refusal["message"]


def test_calls_are_recorded_with_headers_and_shown_without_credentials(
    local_flyte: LocalFlyte,
) -> None:
    local_flyte.clear_calls()
    call(local_flyte, "auth.IdentityService/UserInfo", person="bob", headers={"X-Trace": "7"})
    call(local_flyte, "auth.IdentityService/UserInfo")
    known, unknown = local_flyte.calls
    assert (known.service, known.method) == ("flyteidl2.auth.IdentityService", "UserInfo")
    assert known.headers["x-trace"] == "7"
    assert known.headers["authorization"] == f"Bearer {PEOPLE['bob'].token}"
    assert known.person == PEOPLE["bob"]
    assert unknown.person is None
    assert PEOPLE["bob"].token not in repr(known)
    assert PEOPLE["bob"].token not in repr(PEOPLE["bob"])


def test_people_are_recognised_by_an_api_key_in_a_configured_header() -> None:
    alice, bob = PEOPLE["alice"], PEOPLE["bob"]
    by_key = {"X-Api-Key": alice.api_key}
    with LocalFlyte(credential_headers=["X-Tenant", "X-Api-Key"]) as flyte:
        for headers, status in (
            (by_key, 200),
            ({**by_key, "X-Tenant": "acme", "Cookie": bob.cookie}, 200),
            ({"X-Api-Key": bob.token, "Cookie": alice.cookie}, 401),
            ({"Authorization": alice.api_key}, 401),
            ({**by_key, "Authorization": "Bearer no-such-token"}, 401),
        ):
            answer = call(flyte, "auth.IdentityService/UserInfo", headers=headers)
            assert answer.status_code == status, headers
            assert status == 401 or answer.json()["subject"] == alice.subject
    with LocalFlyte() as flyte:
        answer = call(flyte, "auth.IdentityService/UserInfo", headers=by_key)
        assert answer.status_code == 401


def test_credentials_are_random_and_not_in_reprs() -> None:
    show = "import local_flyte; print(*map(repr, local_flyte.PEOPLE.values()), sep='\\n')"
    tell = (
        "print(*(s for p in local_flyte.PEOPLE.values() for s in (p.token, p.cookie, p.api_key)))"
    )
    program = f"{show}; {tell}"
    paths = [path for path in sys.path if "cookiecutter" in path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    starts = [
        subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
        for _ in range(2)
    ]
    first, second = (set(printed.splitlines()[-1].split()) for printed in starts)
    assert len(first) == 3 * len(PEOPLE)
    assert not first & second
    shown = starts[0].rpartition("\n")[0].rpartition("\n")[0]
    assert "alice-subject" in shown
    assert not any(secret in shown for secret in first)


def test_credentials_and_keys_are_in_files_that_only_their_owner_can_read() -> None:
    with LocalFlyte() as flyte:
        config = flyte.config_file("bob").read_text()
        assert PEOPLE["bob"].token not in config  # from where it would get on a command line
        assert (flyte.home / "bob.token").read_text().strip() == PEOPLE["bob"].token
        for file in (flyte.home, flyte.home / "bob.token", flyte.home / "server.pem"):
            assert file.stat().st_mode & 0o077 == 0, file
        assert PEOPLE["bob"].token not in repr(vars(flyte))
