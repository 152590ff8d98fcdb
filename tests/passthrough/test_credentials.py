"""Sources of the caller's credentials besides Authorization and Cookie."""

from typing import Any

import flyte
import pytest
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse

from passthrough.calls.caller import forwarded_credentials
from passthrough.http.credentials import passthrough_middleware
from passthrough.http.door import Door
from passthrough.settings import Settings


@pytest.fixture(scope="module", autouse=True)
def _initialised(_safe_sdk: None) -> None:
    """Initialise Flyte anew: other tests in this process may have, before it was made safe."""
    flyte.init(endpoint="dns:///flyte.example.com", auth_type="Passthrough")


async def forwarded(*of_asgi: Any) -> None:
    """Answer with the credentials that are forwarded."""
    await JSONResponse(dict(forwarded_credentials()))(*of_asgi)


def answer(settings: dict[str, Any], headers: Any) -> Any:
    known = Settings.model_construct(**settings)
    kind, args, options = passthrough_middleware(known)
    app = kind(forwarded, *args, **options)
    client = TestClient(Door(app, known, ()), "http://localhost")
    return client.get("/", headers=headers)


SENT = [
    ("cookie", "theme=dark; flyte_at=one"),
    ("authorization", "Bearer two"),
    ("x-key", "three"),
    ("x-token", " four "),
    ("x-token", ""),
]
DEFAULT = {"cookie": "flyte_at=one", "authorization": "Bearer two"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, DEFAULT),
        ({"cookie_names": None}, DEFAULT | {"cookie": "theme=dark; flyte_at=one"}),
        ({"credential_headers": ("x-key", "x-none")}, DEFAULT | {"x-key": "three"}),
        # A proxy may put another token in Authorization: oauth2-proxy can send the ID token there.
        ({"token_header": "x-token"}, DEFAULT | {"authorization": "Bearer four"}),
        ({"token_header": "x-none"}, {"cookie": "flyte_at=one"}),
        ({"flyte_plaintext": True}, DEFAULT | {"x-flyte-caller": "nobody"}),
    ],
)
def test_the_settings_decide_where_credentials_come_from(
    settings: dict[str, Any], expected: dict[str, str]
) -> None:
    assert answer(settings, SENT).json() == expected


@pytest.mark.parametrize("tokens", [["five"], ["six, seven"]])
def test_two_different_tokens_of_a_proxy_are_refused(tokens: list[str]) -> None:
    refused = answer(
        {"token_header": "x-token"}, [*SENT, *(("x-token", token) for token in tokens)]
    )
    assert refused.status_code == 400
    assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("values", [[], [""]])
def test_without_the_proxys_header_authorization_is_ignored(values: list[str]) -> None:
    headers = [("Authorization", "Bearer two"), *(("X-Token", value) for value in values)]
    assert answer({"token_header": "X-Token"}, headers).status_code == 401


def test_by_default_no_proxy_is_trusted() -> None:
    assert answer({}, {"X-Forwarded-Access-Token": "four"}).status_code == 401
