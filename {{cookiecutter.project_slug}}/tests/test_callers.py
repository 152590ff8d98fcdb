"""Every endpoint acts as its caller, and as nobody else."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

from .support import TASKS, client_of, finished, run_task

GREET = f"/tasks/{TASKS}.greet"
READS = [
    "/me",
    "/projects",
    "/tasks",
    GREET,
    "/runs",
    "/runs/{run}",
    "/runs/{run}/io",
    "/runs/{run}/events",
    "/runs/{run}/logs",
]
ENDPOINTS = [
    *(("GET", path) for path in READS),
    ("POST", f"{GREET}/runs"),
    ("POST", "/runs/{run}/abort"),
]
OF_THE_PROJECT = [each for each in ENDPOINTS if each[1] not in {"/me", "/projects"}]


def call(client: httpx.Client, endpoint: tuple[str, str], run: dict[str, Any]) -> httpx.Response:
    """Call an endpoint about a run."""
    method, path = endpoint
    body = {"inputs": {"name": "Ada"}} if path == f"{GREET}/runs" else None
    return client.request(method, path.format(run=run["name"]), json=body)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=" ".join)
def test_without_credentials_nothing_is_served(
    anonymous: httpx.Client, endpoint: tuple[str, str], greeting: dict[str, Any]
) -> None:
    response = call(anonymous, endpoint, greeting)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=" ".join)
def test_an_expired_token_is_told_to_authenticate(
    expired: httpx.Client, endpoint: tuple[str, str], greeting: dict[str, Any]
) -> None:
    response = call(expired, endpoint, greeting)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.headers["Content-Type"] == "application/problem+json"
    assert PEOPLE["expired"].token not in response.text


@pytest.mark.parametrize("endpoint", OF_THE_PROJECT, ids=" ".join)
def test_without_rights_on_the_project_its_things_are_forbidden(
    carol: httpx.Client, endpoint: tuple[str, str], greeting: dict[str, Any]
) -> None:
    response = call(carol, endpoint, greeting)
    assert response.status_code == 403
    assert response.json()["title"] == "Forbidden"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=" ".join)
@pytest.mark.parametrize("credential", ["token", "cookie"])
def test_flyte_receives_the_callers_credential_as_it_came_and_no_other(
    app_url: str,
    endpoint: tuple[str, str],
    credential: str,
    greeting: dict[str, Any],
    received: Callable[[], list[ReceivedCall]],
) -> None:
    bob = PEOPLE["bob"]
    sent, expected = {
        "token": ({"Authorization": f"Bearer {bob.token}"},) * 2,
        "cookie": ({"Cookie": f"theme=dark; {bob.cookie}; flyte_rt=r"}, {"Cookie": bob.cookie}),
    }[credential]
    with httpx.Client(base_url=app_url, headers=sent, trust_env=False, timeout=60) as client:
        response = call(client, endpoint, greeting)
    # The run has ended by now, which may be a reason not to abort it.
    assert response.is_success or endpoint[1].endswith("/abort")
    assert "no-store" in response.headers["Cache-Control"]

    calls = received()
    assert calls
    for each in calls:
        assert each.person == bob, each
        got = {name: each.headers.get(name) for name in ("authorization", "cookie")}
        assert got == {
            "authorization": expected.get("Authorization"),
            "cookie": expected.get("Cookie"),
        }, each


def test_each_is_told_who_they_are(alice: httpx.Client, bob: httpx.Client) -> None:
    first, second = alice.get("/me").json(), bob.get("/me").json()
    assert first["subject"]
    assert second["subject"]
    assert first["subject"] != second["subject"]


def test_a_run_belongs_to_whoever_started_it(alice: httpx.Client, bob: httpx.Client) -> None:
    for person in (alice, bob):
        me, run = person.get("/me").json(), run_task(person, "greet", name="Ada")
        assert run["executed_by"]["subject"] == me["subject"]
        assert finished(person, run)["executed_by"]["subject"] == me["subject"]


@pytest.mark.local_flyte
def test_who_may_run_may_abort_whoever_started_it_and_who_may_only_view_may_not(
    alice: httpx.Client, bob: httpx.Client, app_url: str
) -> None:
    run = run_task(alice, "count", to=1000)
    with client_of(app_url, "victor") as victor:
        refused = victor.post(f"/runs/{run['name']}/abort")
        assert refused.status_code == 403
        assert "victor" in refused.json()["detail"]
        assert victor.get(f"/runs/{run['name']}").json()["ended_at"] is None

    assert bob.post(f"/runs/{run['name']}/abort").status_code == 202
    assert finished(alice, run)["phase"] == "aborted"


@pytest.mark.local_flyte
def test_what_flyte_knows_of_a_task_is_asked_for_every_caller(
    alice: httpx.Client, carol: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    """The SDK would hand a task it once fetched to anyone, were the object kept (see README)."""
    for _ in range(2):
        assert alice.get(GREET).status_code == 200
        assert carol.get(GREET).status_code == 403
    asked = [call.person and call.person.name for call in received() if call.method == "ListTasks"]
    assert asked == ["alice", "carol", "alice", "carol"]


@pytest.mark.local_flyte
@pytest.mark.parametrize("path", ["/health", "/ready", "/docs", "/redoc", "/openapi.json"])
def test_public_paths_act_for_nobody(
    app_url: str, path: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    headers = {"Authorization": f"Bearer {PEOPLE['alice'].token}", "Cookie": PEOPLE["alice"].cookie}
    assert httpx.get(app_url + path, headers=headers, trust_env=False).status_code == 200
    assert all("authorization" not in call.headers for call in received())
    assert all("cookie" not in call.headers for call in received())


@pytest.mark.local_flyte
def test_a_page_of_another_site_cannot_act_with_the_visitors_cookie(
    app_url: str, local_flyte: LocalFlyte, received: Callable[[], list[ReceivedCall]]
) -> None:
    headers = {"Cookie": PEOPLE["alice"].cookie, "Sec-Fetch-Site": "cross-site"}
    response = httpx.post(
        f"{app_url}{GREET}/runs", headers=headers, json={"inputs": {"name": "x"}}, trust_env=False
    )
    assert response.status_code == 403
    assert received() == []
