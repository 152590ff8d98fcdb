"""WebSockets are checked like requests, before they are accepted."""

from typing import Any

import pytest
from starlette.responses import Response

from .harness import (
    ALICE,
    COOKIE,
    DENIAL,
    WEBSOCKET,
    Class,
    ask,
    sdk_fails,
    websocket_scope,
)


@sdk_fails(WEBSOCKET)
def test_a_websocket_without_credentials_is_closed_before_it_is_accepted(
    middleware_class: Class,
) -> None:
    answer = ask(middleware_class, websocket_scope())
    assert answer.refused
    assert answer.messages == [
        {
            "type": "websocket.close",
            "code": 1008,
            "reason": "Authentication credentials required",
        }
    ]


@sdk_fails(WEBSOCKET)
def test_a_websocket_is_denied_with_401_where_the_server_can(middleware_class: Class) -> None:
    answer = ask(middleware_class, websocket_scope(**DENIAL))
    assert answer.refused
    assert [message["type"] for message in answer.messages] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert answer.status == 401
    assert answer.header(b"www-authenticate") == [b"Bearer"]
    assert answer.body == b'{"detail":"Authentication credentials required"}'


@sdk_fails("the SDK's class sets no metadata for WebSockets")
@pytest.mark.parametrize("headers", [[ALICE], [COOKIE], [ALICE, COOKIE]])
def test_an_accepted_websocket_has_its_callers_credentials(
    middleware_class: Class, headers: list[tuple[bytes, bytes]]
) -> None:
    answer = ask(middleware_class, websocket_scope(headers=headers))
    assert answer.status == 101
    assert answer.credentials == {key.decode(): value.decode() for key, value in headers}


def test_a_websocket_on_an_excluded_path_passes_without_credentials(
    middleware_class: Class,
) -> None:
    answer = ask(middleware_class, websocket_scope("/open", headers=[ALICE]), None, {"/open"})
    assert answer.status == 101
    assert answer.credentials == {}


@sdk_fails("the SDK's class runs no extractors for WebSockets")
def test_extractors_run_for_websockets(middleware_class: Class) -> None:
    def from_query(connection: Any) -> tuple[str, str] | None:
        return ("x-token", connection.query_params["t"])

    scope = websocket_scope(query_string=b"t=5")
    assert ask(middleware_class, scope, [from_query]).credentials == {"x-token": "5"}


@sdk_fails(WEBSOCKET)
def test_a_method_in_a_websocket_scope_does_not_make_it_safe(middleware_class: Class) -> None:
    headers = [COOKIE, (b"origin", b"https://evil.example")]
    assert ask(middleware_class, websocket_scope(headers=headers, method="GET")).refused
    preflight = [(b"origin", b"https://x.example"), (b"access-control-request-method", b"PUT")]
    assert ask(middleware_class, websocket_scope(headers=preflight, method="OPTIONS")).refused


def test_a_websocket_of_a_subclass_with_its_own_dispatch_is_checked(ours: Class) -> None:
    class Overriding(ours):  # type: ignore[misc, valid-type]
        async def dispatch(self, *_: Any) -> Response:
            raise AssertionError("not for WebSockets")

    assert ask(Overriding, websocket_scope()).refused
    answer = ask(Overriding, websocket_scope(headers=[ALICE]))
    assert answer.credentials == {"authorization": "Bearer alice"}
