"""What logs, errors and answers show of credentials: nothing."""

import asyncio
import io
import json
import logging
import re
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter, FastAPI, HTTPException, Request
from flyte import remote
from flyteidl2.core.literals_pb2 import Literal
from google.protobuf.message import DecodeError

from local_flyte import PEOPLE, LocalFlyte
from local_flyte.testing import client_of, serving, wait_until
from passthrough.calls.redaction import REDACTED, redact, with_safe_errors
from passthrough.calls.sdk import TooLargeError
from passthrough.http.logging_setup import Console, LogFormatter, set_up_logging
from passthrough.limits import DEFAULTS
from passthrough.settings import Settings

from .support import build_app, run_python

TOKEN = "a-token-of-somebody"

GET_DATA = "flyteidl2.dataproxy.DataProxyService/GetActionData"
LIMIT = (
    "no: limit exceeded. 3.100000mb > 2mb. You can increase the limit by setting maxDownloadMBs."
)
TOLD_LIMIT = "Flyte returns inputs and outputs of at most 2 MiB"
LONG = "x" * 2 * DEFAULTS.error_chars


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
        (Code.ABORTED, LONG, GET_DATA, (Code.ABORTED, LONG[: DEFAULTS.error_chars])),
        (Code.INTERNAL, LIMIT, "Service/GetRunDetails", (Code.INTERNAL, LIMIT)),
        (Code.INTERNAL, LIMIT, GET_DATA, (Code.OUT_OF_RANGE, TOLD_LIMIT)),
    ],
)
def test_an_error_keeps_its_code_and_a_short_text_without_secrets_and_details(
    code: Code, message: str, method: str, expected: tuple[Code, str]
) -> None:
    error = ConnectError(code, message, [Literal()])
    error.__cause__ = ConnectionError()
    safe = told(error, method)
    assert (safe.code, safe.message) == expected
    assert isinstance(safe, TooLargeError) is (expected[0] is Code.OUT_OF_RANGE)
    assert safe.method == method
    assert safe.__cause__ is error.__cause__
    assert not safe.details


def test_some_errors_of_the_client_mean_something_else() -> None:
    error = ConnectError(Code.UNAVAILABLE, "Error parsing message")
    error.__cause__ = DecodeError()
    safe = told(error)
    assert (safe.code, safe.message) == (Code.INTERNAL, "the answer cannot be read")
    large = TooLargeError("larger than 8 bytes")
    assert told(large) is large
    assert (large.code, large.message) == (Code.OUT_OF_RANGE, "larger than 8 bytes")
    error.__cause__ = cancelled = asyncio.CancelledError("by a scope of anyio's")
    assert told(error).args == cancelled.args  # by which anyio recognises its own


CREDENTIALS = (
    ("authorization", "Bearer k=one-1;s=two"),
    ("cookie", 'theme=three-333; b="four-4444"; five-5555; short=six'),
    ("x-api-key", "seven-77 eight-88"),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bearer k=one-1;s=two, again k=one-1;s=two", "Bearer ***, again ***"),
        ("three-333 four-4444 five-5555", "*** *** ***"),
        ("seven-77 eight-88 and eight-88", "*** and ***"),
        ("theme=six", "theme=six"),  # too short for a credential
        ("PUT https://s3.example/key?a=1?b&c failed", "PUT https://s3.example/key?… failed"),
        ("https://a.example/ why? https://a/?", "https://a.example/ why? https://a/?"),
        (
            "<SignatureProvided>5f3e</SignatureProvided>",
            "<SignatureProvided>***</SignatureProvided>",
        ),
        ("a=1&amp;X-Amz-Security-Token=STS%2F1&amp;b", "a=1&amp;X-Amz-Security-Token=***&amp;b"),
    ],
)
def test_credentials_and_signatures_are_replaced_and_nothing_else(text: str, shown: str) -> None:
    with remote.auth_metadata(*CREDENTIALS):
        assert redact(text) == shown
    assert redact("k=one-1;s=two") == "k=one-1;s=two"  # of no caller
    many = "; ".join(f"c{number}=longer-than-three-{number}" for number in range(200))
    with remote.auth_metadata(("cookie", f"theme=three-333; {many}")):
        assert "three-333" not in redact("of a cookie beside many longer ones: three-333")
    long = "x-amz-" * 200_000  # not done today, if the work grew with the square of the length
    assert redact(long) == long


def test_a_text_that_is_cut_off_has_no_part_of_a_secret_at_its_end() -> None:
    """It is cut off first: 100 errors under one key of 900 kB would else take seconds."""
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}")):
        for before in range(60):
            for secrets in range(6):
                text = "x" * before + TOKEN * secrets + "y" * 100
                shown = redact(text, 40)
                assert "a-t" not in shown, text
                assert text.replace(TOKEN, REDACTED)[:40].startswith(shown)
                assert secrets or shown == text[:40]


class Writes(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.number += 1
        self.written.set()
        return super().write(text)


async def test_what_is_logged_in_a_moment_is_written_together_and_a_warning_at_once() -> None:
    console, stream = Console(), Writes()
    console.setStream(stream)
    record = {"name": "app", "msg": "said", "levelno": logging.INFO}
    for number in range(3):
        console.handle(logging.makeLogRecord(record | {"msg": f"{number}"}))
    console.handle(logging.makeLogRecord({"msg": "beware", "levelno": logging.WARNING}))
    assert (stream.getvalue(), stream.number) == ("0\n1\n2\nbeware\n", 1)
    stream.written.clear()
    console.handle(logging.makeLogRecord(record))
    await stream.written.wait()
    assert stream.getvalue().endswith("beware\nsaid\n")
    await asyncio.to_thread(console.handle, logging.makeLogRecord(record))
    assert stream.getvalue().endswith("said\nsaid\n")


FORGED = "2026-01-01T00:00:00.000+00:00 ERROR app: all is lost"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            f"one\n{FORGED}\r\x1b[2K\u2028{FORGED}",
            rf"ERROR flyte: one\n    {FORGED}\r\x1b[2K\u2028{FORGED}",
        ),
        (f"no {TOKEN}", f"ERROR flyte: no {REDACTED}"),
        ("a" * 6000 + "b" * 6000, "ERROR flyte: " + "a" * 4998 + " … " + "b" * 4998),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_is_short_and_no_text_in_it_looks_like_another(
    form: Any, message: str, shown: str
) -> None:
    settings = Settings().model_copy(update={"log_format": form})
    record = logging.makeLogRecord({"name": "flyte", "levelname": "ERROR", "msg": message})
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}")):
        line = LogFormatter(settings).format(record)
    if form == "text":
        assert line.partition(" ")[2] == shown.replace(r"\n", "\n", 1)
    else:
        assert line.isprintable()
        assert json.loads(line).items() >= {"level": "ERROR", "logger": "flyte"}.items()
        assert len(json.loads(line)["message"]) <= DEFAULTS.log_record_chars


APP = """
import logging
from fastapi import APIRouter
from fastapi.testclient import TestClient
from tests.passthrough.support import build_app

router = APIRouter()

@router.get("/logs")
async def logs() -> None:
    for name in ("app.routers.mine", "flyte", "others"):
        logger = logging.getLogger(name)
        logger.debug("unimportant")
        logger.warning("one\\ntwo %s", "{token}")
    raise KeyError("{token}")

changed = dict(flyte_plaintext=True, flyte_endpoint="http://127.0.0.1:1", allow_anonymous=True)
app = build_app(router, log_level="{level}", log_format="{form}", **changed)
with TestClient(app, base_url="http://localhost") as client:
    headers = {{"Authorization": "Bearer {token}", "X-Request-ID": "mine"}}
    client.get("/logs?token=hidden", headers=headers)
"""
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 "


def printed(form: str, level: str) -> list[str]:
    said = run_python(APP.format(token=TOKEN, form=form, level=level)).stderr
    assert "hidden" not in said
    assert TOKEN not in said
    return said.splitlines()


def test_what_the_app_the_sdk_and_others_say_is_shown_in_one_form() -> None:
    lines = printed("text", "DEBUG")
    away, *records = [re.sub(TIME, "", line) for line in lines if re.match(TIME, line)]
    assert away.startswith("WARNING passthrough.start: Flyte cannot be reached at http://127.0.0.1")
    assert records[:-1] == [
        "DEBUG app.routers.mine: unimportant",
        "WARNING app.routers.mine: one",
        "WARNING flyte: one",
        "WARNING others: one",
        "ERROR passthrough.http.problems: GET /logs: status 500, KeyError",
    ]
    line = r"INFO app\.access: GET /logs 500 [\d.]+ 0\.0 mine [0-9a-f]{12} -"
    assert re.fullmatch(line, records[-1])
    others = [line for line in lines if not re.match(TIME, line)]
    assert others.count(f"    two {REDACTED}") == 3
    assert f"    KeyError: '{REDACTED}'" in others
    assert any("/starlette/" in line for line in others)  # since it is DEBUG


def test_as_json_each_record_is_a_line() -> None:
    _, said, *_, bug, request = [json.loads(line) for line in printed("json", "INFO")]
    assert (said["logger"], said["message"]) == ("app.routers.mine", f"one\ntwo {REDACTED}")
    assert bug["message"].startswith("GET /logs: status 500, KeyError\nTraceback")
    assert not re.search("/(starlette|passthrough)/", bug["message"])  # since it is INFO
    expected = {"method": "GET", "route": "/logs", "status": 500, "request_id": "mine"}
    assert request.items() >= expected.items()


def test_an_owners_own_configuration_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    own = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    set_up_logging(Settings())
    assert logging.getLogger().handlers == [own]
    assert own.formatter is None


router = APIRouter()


@router.get("/quote/{kind}")
async def quote(kind: str, request: Request) -> None:
    text = f"not with {request.headers['x-key']} nor {request.cookies['flyte_at']}"
    if kind == "refusal":
        raise HTTPException(404, text)
    raise RuntimeError(text)


@pytest.mark.parametrize("path", ["/quote/refusal", "/quote/bug", "/inner/quote"])
def test_no_credential_is_quoted_wherever_it_comes_from(
    local_flyte: LocalFlyte, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    inner = FastAPI()
    app = build_app(router, credential_headers=("x-key",))
    app.mount("/inner", inner)

    @inner.get("/quote")
    async def quote_inside(request: Request) -> None:
        raise ValueError(request.headers["x-key"])

    caplog.handler.setFormatter(LogFormatter(Settings()))  # as docs/operating.md says
    cookie = PEOPLE["alice"].token
    sent = {"X-Key": TOKEN, "Cookie": f"flyte_at={cookie}", "X-Request-ID": cookie}
    with serving(app) as url, client_of(url, None) as client:
        response: httpx.Response = client.get(path, headers=sent)
    if path == "/quote/refusal":
        assert response.json()["detail"] == "not with *** nor ***"
    else:
        assert response.status_code == 500
        wait_until(lambda: "status 500" in caplog.text)
        assert REDACTED in caplog.text
    assert TOKEN not in response.text + caplog.text
    assert cookie not in response.text + str(response.headers) + caplog.text


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"credential_headers": ("X-Key",)}, [("X-Key", TOKEN)]),
        ({"token_header": "X-Token"}, [("X-Token", TOKEN)]),
        ({}, [("Cookie", f"flyte_at={TOKEN}"), ("Cookie", "theme=dark")]),
    ],
)
def test_a_credential_is_no_request_id(
    local_flyte: LocalFlyte, settings: dict[str, Any], headers: list[tuple[str, str]]
) -> None:
    with serving(build_app(**settings)) as url, client_of(url, None) as client:
        for sent, is_kept in ((TOKEN, False), (f"x-{TOKEN}", False), ("a", True)):
            answer = client.get("/none", headers=[*headers, ("X-Request-ID", sent)])
            assert (answer.headers["X-Request-ID"] == sent) is is_kept, sent
