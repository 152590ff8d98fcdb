"""Every endpoint, your own included, acts as its caller and as nobody else."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from local_flyte import PEOPLE, ReceivedCall

from .support import OPERATIONS, PUBLIC, TASKS

Operation = tuple[str, str]
ABOUT_THE_PROJECT = [each for each in OPERATIONS if each[1].startswith(("/tasks", "/runs"))]
EXAMPLES: dict[Operation, dict[str, Any]] = {
    ("POST", "/tasks/{name}/runs"): {"json": {"inputs": {"name": "Ada"}}},
}
"""What to send where, ``json`` and ``params``, if nothing is not enough."""


def call(client: httpx.Client, operation: Operation, run: dict[str, Any]) -> httpx.Response:
    """Call an operation about a task or a run that exists."""
    method, path = operation
    name = f"{TASKS}.greet" if path.startswith("/tasks") else run["name"]
    example: dict[str, Any] = {} if method == "GET" else {"json": {}}
    example |= EXAMPLES.get(operation, {})
    return client.request(method, path.replace("{name}", name), **example)


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_without_credentials_nothing_is_served(
    anonymous: httpx.Client, operation: Operation, greeting: dict[str, Any]
) -> None:
    response = call(anonymous, operation, greeting)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.authorization
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_an_expired_token_is_told_to_authenticate(
    expired: httpx.Client, operation: Operation, greeting: dict[str, Any]
) -> None:
    response = call(expired, operation, greeting)
    assert not response.is_success, (
        f"{' '.join(operation)} serves whoever sends any token, because it asks Flyte nothing:"
        " give it a CallerDep parameter"
    )
    assert response.status_code != 422, (
        f"{' '.join(operation)} has not asked Flyte who is calling before it refused its parameters:"
        " give it a CallerDep parameter, or say in EXAMPLES, above, what to send"
    )
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert PEOPLE["expired"].token not in response.text


@pytest.mark.authorization
@pytest.mark.parametrize("operation", ABOUT_THE_PROJECT, ids=" ".join)
def test_without_rights_on_the_project_its_things_are_forbidden(
    carol: httpx.Client, operation: Operation, greeting: dict[str, Any]
) -> None:
    response = call(carol, operation, greeting)
    assert response.status_code == 403
    assert response.json()["title"] == "Forbidden"


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
@pytest.mark.parametrize("credential", ["token", "cookie"])
def test_flyte_receives_the_callers_credential_as_it_came_and_no_other(
    app_url: str,
    operation: Operation,
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
        response = call(client, operation, greeting)
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


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_paths_need_no_credentials(anonymous: httpx.Client, path: str) -> None:
    assert anonymous.get(path).status_code < 400


@pytest.mark.reads_what_flyte_received
@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_paths_act_for_nobody(
    anonymous: httpx.Client, path: str, received: Callable[[], list[ReceivedCall]]
) -> None:
    headers = {"Authorization": f"Bearer {PEOPLE['alice'].token}", "Cookie": PEOPLE["alice"].cookie}
    assert anonymous.get(path, headers=headers).status_code < 400
    assert all("authorization" not in call.headers for call in received())
    assert all("cookie" not in call.headers for call in received())


def test_a_path_that_does_not_exist_is_a_problem(alice: httpx.Client) -> None:
    response = alice.get("/none")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
