"""Which headers and cookies are the caller's credentials."""

from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from passthrough.http.door import passthrough_middleware
from passthrough.settings import Settings


def forwarded(settings: dict[str, Any], sent: list[tuple[str, str]]) -> Any:
    """Return the credentials that are forwarded, or the status of the refusal."""
    kind, _, options = passthrough_middleware(Settings.model_construct(**settings))
    middleware: Any = kind(Response(), **options)
    headers = [(name.lower().encode(), value.encode()) for name, value in sent]
    try:
        return middleware.credentials(
            {"type": "http", "method": "GET", "path": "", "headers": headers}
        )
    except HTTPException as refused:
        return refused.status_code


SENT = [
    ("cookie", "theme=dark; flyte_at=one"),
    ("Authorization", "Bearer two"),
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
    assert forwarded(settings, SENT) == expected


@pytest.mark.parametrize("tokens", [["five"], ["six, seven"]])
def test_two_different_tokens_of_a_proxy_are_refused(tokens: list[str]) -> None:
    sent = [*SENT, *(("x-token", token) for token in tokens)]
    assert forwarded({"token_header": "x-token"}, sent) == 400


@pytest.mark.parametrize("values", [[], [""]])
def test_without_the_proxys_header_authorization_is_ignored(values: list[str]) -> None:
    sent = [("authorization", "Bearer two"), *(("X-Token", value) for value in values)]
    assert forwarded({"token_header": "X-Token"}, sent) == 401


def test_by_default_no_proxy_is_trusted() -> None:
    assert forwarded({}, [("X-Forwarded-Access-Token", "four")]) == 401
