"""Calls to Flyte over the wire: the real SDK calls a local Flyte, which records what arrives."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import flyte as sdk
import pytest
from flyte import remote
from starlette.types import Receive, Scope, Send

from local_flyte import LocalFlyte

from .harness import Class, Connection, case, reply, serve

Sent = Callable[..., dict[bytes, bytes]]
"""Calls the app with exactly these header lines; returns the headers of its call to Flyte."""


@pytest.fixture(scope="module")
def flyte() -> Iterator[LocalFlyte]:
    with LocalFlyte() as flyte:
        trusted = str(flyte.ca_file)
        sdk.init(endpoint=flyte.endpoint, auth_type="Passthrough", ca_cert_file_path=trusted)
        yield flyte


@pytest.fixture(scope="module")
def sent(flyte: LocalFlyte, cls: Class) -> Iterator[Sent]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Exception):  # nobody has this credential
            await remote.User.get.aio()
        await reply(send, b"")

    with serve(cls(app), loop="asyncio", http="httptools") as port:

        def call(*lines: bytes) -> dict[bytes, bytes]:
            flyte.clear_calls()
            with Connection(port) as connection:
                connection.ask("GET", "/", *(each.decode("latin-1") for each in lines))
            headers = flyte.calls[-1].headers
            return {key.encode(): value.encode("latin-1") for key, value in headers.items()}

        yield call


AS_THEY_CAME = {
    "bearer": b"Bearer a.b-c_d~e+f/g==",
    "basic": b"Basic dTpw",
    "other scheme": b"DPoP x",
    "spaces inside": b"Bearer  a  b",
    "tab inside": b"Bearer a\tb",
    "every visible character": b"Bearer " + bytes(range(0x21, 0x7F)),
    "long": b"Bearer " + b"x" * 60_000,
}
UTF_8 = case("UTF-8", "Bearer é日🔑".encode(), sdk="UTF-8 is encoded twice")


@pytest.mark.parametrize("value", [*(case(*each) for each in AS_THEY_CAME.items()), UTF_8])
def test_the_bytes_that_reach_flyte_are_those_that_came(sent: Sent, value: bytes) -> None:
    headers = sent(b"Authorization: " + value)
    assert headers[b"authorization"] == value
    assert b"cookie" not in headers


@pytest.mark.parametrize(
    ("lines", "cookies"),
    [
        case("one", [b'Cookie: a=b; c="d e"; f='], b'a=b; c="d e"; f='),
        case("two", [b"Cookie: a=1", b"Cookie: b=2"], b"a=1; b=2", sdk="only the first is read"),
    ],
)
def test_cookies_reach_flyte_as_they_came(sent: Sent, lines: list[bytes], cookies: bytes) -> None:
    headers = sent(*lines, b"Authorization: Bearer x")
    assert headers[b"cookie"] == cookies
    assert headers[b"authorization"] == b"Bearer x"


def test_nothing_else_of_the_request_reaches_flyte(sent: Sent) -> None:
    headers = sent(b"Authorization: Bearer x", b"X-Other: 1", b"User-Agent: me/1")
    assert b"x-other" not in headers
    assert b"me/1" not in b"\n".join(headers.values())
