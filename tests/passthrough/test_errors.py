"""Errors of calls, and what they and the log show of credentials."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyteidl2.core.literals_pb2 import Literal
from google.protobuf.message import DecodeError

from passthrough.calls.errors import (
    REMOVED,
    DeadlineExceededError,
    Secrets,
    TooLargeError,
    keep_credentials_out_of_logs,
    safe_errors,
    safe_lines,
    secrets_in,
)
from passthrough.limits import MAX_ERROR_CHARS, MAX_LINE_CHARS

GET_DATA = "flyteidl2.dataproxy.DataProxyService/GetActionData"
LIMIT = (
    "no: limit exceeded. 3.100000mb > 2mb. You can increase the limit by setting maxDownloadMBs."
)
TOLD_LIMIT = "Flyte returns inputs and outputs of at most 2 MiB"
TOKEN = "a-token-of-somebody"


def told(error: ConnectError, method: str = GET_DATA) -> Any:
    """Return what is raised instead of an error of the Connect client."""
    with (
        pytest.raises((ConnectError, asyncio.CancelledError)) as raised,
        safe_errors(Secrets([TOKEN]), method),
    ):
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("code", "message", "method", "expected"),
    [
        (Code.NOT_FOUND, None, GET_DATA, (Code.NOT_FOUND, "")),
        (Code.NOT_FOUND, 7, GET_DATA, (Code.NOT_FOUND, "7")),
        (Code.NOT_FOUND, f"no {TOKEN}", GET_DATA, (Code.NOT_FOUND, REMOVED)),
        (Code.ABORTED, "x" * 2000, GET_DATA, (Code.ABORTED, "x" * MAX_ERROR_CHARS)),
        (Code.INTERNAL, LIMIT, "Service/GetRunDetails", (Code.INTERNAL, LIMIT)),
        (Code.UNKNOWN, LIMIT, GET_DATA, (Code.UNKNOWN, LIMIT)),
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
    assert told(error) is cancelled  # anyio recognises its own
    late = DeadlineExceededError(GET_DATA)
    shown = (late.code, late.kind, str(late), late.method)
    assert shown == ("DeadlineExceeded", "system", "Flyte did not answer in time", GET_DATA)


def test_secrets_are_told_from_schemes_and_the_names_of_cookies() -> None:
    authorization = ("authorization", "Bearer k=one;s=two")
    caller = [authorization, ("cookie", 'a=three=3; b="fourX";five'), ("x-api-key", "six seven")]
    assert secrets_in(caller).values == ["k=one;s=two", "three=3", "fourX", "five", "six", "seven"]
    assert secrets_in([("authorization", "alone")]).values == ["alone"]


@pytest.mark.parametrize(
    ("text", "is_quote"),
    [
        ("no 0123456789ab", True),
        ("no 89abcdefghij no", True),
        ("no 0123456789a", False),
        ("no eightlet no", True),
        ("no sevenle no cdefghijeig no", False),
        ("no number-04999 no", True),
        ("in pieces: 01234 56789\n0ab cdefghi j", False),
        ("in pieces: 01234 56789\nab\tcd e", True),
        ("invisible: 0123\u200b4567\u00ad89ab", True),
        (r"escaped: 0123\n4567\x1b89\u200bab", True),
    ],
)
def test_a_quote_is_a_short_secret_or_a_good_part_of_a_long_one(text: str, is_quote: bool) -> None:
    secrets = ["0123456789abcdefghij", "eightlet", "sevenle"]
    secrets += [f"word-number-{n:05}" for n in range(5000)]
    assert Secrets(secrets).are_in(text) is is_quote


@pytest.fixture
def _safe_records() -> Iterator[None]:
    make_record = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)  # another test may have made records safe
    keep_credentials_out_of_logs()
    yield
    logging.setLogRecordFactory(make_record)


@pytest.mark.usefixtures("_safe_records")
def test_no_record_of_the_sdk_quotes_a_credential_or_looks_like_several(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("flyte.remote._data")
    log.addHandler(caplog.handler)
    with remote.auth_metadata(("authorization", f"Bearer {TOKEN}")):
        for said in (TOKEN, "nothing\r\n2026-01-01 INFO all is well"):
            log.error("Flyte said: %s", said)
            try:
                raise ConnectionError(said)
            except ConnectionError:
                log.exception("Flyte cannot be reached")
    log.removeHandler(caplog.handler)
    named = {(record.name, record.funcName[:24]) for record in caplog.records}
    assert named == {("flyte.remote._data", "test_no_record_of_the_sd")}
    messages = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert messages[:2] == [REMOVED, "Flyte said: nothing\\r\n    2026-01-01 INFO all is well"]
    trace = messages[2]
    assert trace.startswith("Flyte cannot be reached\n    Traceback (most recent call last)")
    assert "\n    ConnectionError: nothing" in trace
    assert TOKEN not in caplog.text
    assert "\nConnectionError" not in caplog.text


@pytest.mark.usefixtures("_safe_records")
def test_records_of_others_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("app", "flytekit", "mine.flyte"):
        logging.getLogger(name).error("one\n%s", "two", exc_info=ValueError("three"))
    assert [record.args for record in caplog.records] == [("two",)] * 3
    assert caplog.text.count("\nValueError: three") == 3
    assert logging.makeLogRecord({"msg": "one"}).getMessage() == "one"  # it has no name at first
    named = {"level": 1, "pathname": "", "lineno": 1, "msg": "", "args": (), "exc_info": None}
    assert logging.getLogRecordFactory()(name="app", **named).name == "app"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("PUT https://s3.example/key?sig=1&x=2 failed", "PUT https://s3.example/key?… failed"),
        ("PUT https://s3.example/key?a?b\tfailed", r"PUT https://s3.example/key?…\tfailed"),
        ("[https://a.example/?b=1] why?no", "[https://a.example/?… why?no"),
        ("https://a.example/ why? https://a/?", "https://a.example/ why? https://a/?"),
        ("ä\x1b[2K\u2028\ud800", r"ä\x1b[2K\u2028\ud800"),
        ("one two\nthree\r\x1b[2K\u2028four", "one two\n    three\\r\\x1b[2K\\u2028four"),
        ("x" * MAX_LINE_CHARS, "x" * MAX_LINE_CHARS),
        ("a" * 6000 + "b" * 6000, "a" * 4998 + " … " + "b" * 4998),
        ("\n" * 5000, ("\n    " * 1000)[:4998] + " … " + ("\n    " * 1000)[-4998:]),
    ],
)
def test_a_record_is_short_printable_and_indented_and_shows_no_signature(
    text: str, lines: str
) -> None:
    assert safe_lines(text) == lines
