"""Tests that errors and responses contain no credentials."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, FastAPI, HTTPException, Request
from flyte import remote
from flyteidl2.core.literals_pb2 import Literal
from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Receive, Scope, Send

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.calls import redaction
from passthrough.calls.redaction import MAX_ERROR_CHARS, REDACTED, redact, with_safe_errors
from passthrough.calls.sdk import TooLargeError
from passthrough.http.logging_setup import LogFormatter
from passthrough.settings import Settings

from ..support import begin_request, build_app

router = APIRouter()
TOKEN = "a-token-of-somebody"
GET_DATA = "flyteidl2.dataproxy.DataProxyService/GetActionData"
LIMIT = (
    "no: limit exceeded. 3.100000mb > 2mb. You can increase the limit by setting maxDownloadMBs."
)
TOLD_LIMIT = "Flyte returns inputs and outputs of at most 2 MiB"
LONG = "x" * 2 * MAX_ERROR_CHARS


def told(error: ConnectError, method: str = GET_DATA) -> Any:
    """Return what is raised instead of an error of the Connect client."""

    async def fail() -> None:
        raise error

    with (
        remote.auth_metadata(("authorization", f"Bearer {TOKEN}")),
        pytest.raises((ConnectError, asyncio.CancelledError)) as raised,
    ):
        asyncio.run(with_safe_errors(fail(), method))
    return raised.value


@pytest.mark.parametrize(
    ("code", "message", "method", "expected"),
    [
        (Code.NOT_FOUND, f"no {TOKEN}", GET_DATA, (Code.NOT_FOUND, "no ***")),
        (Code.ABORTED, LONG, GET_DATA, (Code.ABORTED, LONG[:MAX_ERROR_CHARS])),
        (Code.INTERNAL, LIMIT, "Service/GetRunDetails", (Code.INTERNAL, LIMIT)),
        (Code.INTERNAL, LIMIT, GET_DATA, (Code.OUT_OF_RANGE, TOLD_LIMIT)),
    ],
)
def test_error_keeps_code_and_redacted_text(
    code: Code, message: str, method: str, expected: tuple[Code, str]
) -> None:
    """Details are removed."""
    error = ConnectError(code, message, [Literal()])
    error.__cause__ = ConnectionError()
    safe = told(error, method)
    assert (safe.code, safe.message) == expected
    assert isinstance(safe, TooLargeError) is (expected[0] is Code.OUT_OF_RANGE)
    assert safe.method == method
    assert safe.__cause__ is error.__cause__
    assert not safe.details


def test_only_decode_errors_are_converted_to_internal() -> None:
    error = ConnectError(Code.UNAVAILABLE, "Error parsing message")
    error.__cause__ = DecodeError()
    safe = told(error)
    assert (safe.code, safe.message) == (Code.INTERNAL, "the response of Flyte cannot be read")
    large = TooLargeError("larger than 8 bytes")
    assert told(large) is large
    assert (large.code, large.message) == (Code.OUT_OF_RANGE, "larger than 8 bytes")
    error.__cause__ = cancelled = asyncio.CancelledError("by a scope of anyio's")
    assert told(error).args == cancelled.args  # by which anyio recognises its own


CREDENTIALS = (
    ("authorization", "Bearer k=one-1;s=two"),
    ("cookie", 'a=three-33333333333; b="four-44444444444"; five-55555555555; theme=development'),
    ("x-api-key", "seven-77 eight-88"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bearer k=one-1;s=two, again k=one-1;s=two", "Bearer ***, again ***"),
        ("three-33333333333 four-44444444444 five-55555555555", "*** *** ***"),
        ("seven-77 eight-88 and eight-88", "*** and ***"),
        ("the domain development", "the domain development"),  # too short for a credential
        ("PUT https://s3.example/key?a=1?b&c failed", "PUT https://s3.example/key?… failed"),
        ("https://a.example/ why? https://a/?", "https://a.example/ why? https://a/?"),
        (
            "<SignatureProvided>5f3e</SignatureProvided>",
            "<SignatureProvided>***</SignatureProvided>",
        ),
        ("a=1&amp;X-Amz-Security-Token=STS%2F1&amp;b", "a=1&amp;X-Amz-Security-Token=***&amp;b"),
    ],
)
def test_redact_replaces_credentials_and_signatures(text: str, expected: str) -> None:
    with remote.auth_metadata(*CREDENTIALS):
        assert redact(text) == expected
    assert redact("k=one-1;s=two") == "k=one-1;s=two"  # of no caller
    many = "; ".join(f"c{number}=longer-than-three-{number}" for number in range(600))
    with remote.auth_metadata(("cookie", f"theme=three-333; {many}")):
        assert redact("nobody's credentials have so many") == REDACTED
    long = "x-amz-" * 200_000  # not done today, if the work grew with the square of the length
    assert redact(long) == long


def test_truncated_text_contains_no_partial_secret() -> None:
    """The text is truncated first, because redacting 100 errors with a key of 900 kB is slow."""
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}")):
        for before in range(60):
            for secrets in range(6):
                text = "x" * before + TOKEN * secrets + "y" * 100
                redacted = redact(text, 40)
                assert "a-t" not in redacted, text
                assert text.replace(TOKEN, REDACTED)[:40].startswith(redacted)
                assert secrets or redacted == text[:40]


async def test_redaction_caches_secrets_of_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding large secrets takes 5 ms, and a response may contain 300 texts."""
    monkeypatch.setattr(redaction, "secrets_in", find := Mock(wraps=redaction.secrets_in))
    begin_request()
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}")):
        assert [redact(f"no {TOKEN}") for _ in range(300)] == ["no ***"] * 300
    assert find.call_count == 1


@router.get("/quote/{kind}")
async def quote(kind: str, request: Request) -> None:
    text = f"not {list(request.headers.values())}"
    if kind == "refusal":
        raise HTTPException(404, text)
    raise RuntimeError(text)


class Quoting:
    """Middleware of a developer that fails, and whose error quotes all headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("query_string") == b"quote":
            raise RuntimeError(str(scope["headers"]))
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    "path", ["/quote/refusal", "/quote/bug", "/quote/public", "/inner/quote", "/me?quote"]
)
def test_errors_and_logs_contain_no_credential(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """This is also true for credentials that the app does not forward to Flyte."""
    inner = FastAPI()
    public = frozenset({"/quote/public"})
    app = build_app(router, public=public, credential_headers=("x-key",), token_header="x-token")
    app.add_middleware(Quoting)
    app.mount("/inner", inner)

    @inner.get("/quote")
    async def quote_inside(request: Request) -> None:
        raise ValueError(request.headers["x-key"])

    caplog.handler.setFormatter(LogFormatter(Settings()))  # as docs/operating.md says
    cookie, session = "a-cookie-of-somebody", "a-session-of-the-proxy"
    ignored, proxy = "an-authorization-that-is-not-forwarded", "a-token-for-a-proxy"
    headers = {
        "X-Key": TOKEN,
        "Cookie": f"flyte_at={cookie}; _oauth2_proxy={session}",
        "Authorization": f"Bearer {ignored}",
        "Proxy-Authorization": f"Bearer {proxy}",
    }
    with serving(app) as url, client_of(url, None) as client:
        response = client.get(path, headers=headers)
    if path == "/quote/refusal":
        assert response.status_code == 404
        assert "flyte_at=***; _oauth2_proxy=***" in response.json()["detail"]
    else:
        assert response.status_code == 500
        wait_until(lambda: "status 500" in caplog.text)
        assert REDACTED in caplog.text
    for secret in (TOKEN, cookie, session, ignored, proxy):
        assert secret not in response.text + caplog.text
