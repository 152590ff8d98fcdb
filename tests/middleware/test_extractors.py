"""Valid extractors, and valid results."""

import asyncio
import functools
import logging
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from .harness import ALICE, COOKIE, Class, Probe, ask, get, request, sdk_fails

ONE = ("x-a", "1")


def raising(text: str, request: Any) -> tuple[str, str]:
    raise RuntimeError(text)


def test_a_list_of_extractors_replaces_the_defaults(cls: Class) -> None:
    only_key = [cls.extract_custom_header("X-Api-Key")]
    answer = ask(cls, get(ALICE, COOKIE, (b"x-api-key", b"k")), header_extractors=only_key)
    assert answer.credentials == {"x-api-key": "k"}
    assert ask(cls, get(ALICE), only_key).status == 401
    assert ask(cls, get(ALICE, COOKIE), []).status == 401


def test_the_list_of_extractors_may_change_later(cls: Class) -> None:
    probe = Probe()
    app = cls(probe)
    app.header_extractors.append(lambda _: ONE)
    asyncio.run(request(app, get(ALICE)))
    assert probe.seen == [{"authorization": "Bearer alice", "x-a": "1"}]


def test_a_later_extractor_wins_on_the_same_key(cls: Class) -> None:
    extractors = [lambda _: ONE, lambda _: ("x-b", "2"), lambda _: ("x-a", "3")]
    assert ask(cls, get(), extractors).credentials == {"x-a": "3", "x-b": "2"}


@sdk_fails("keys that differ in case are all sent")
def test_keys_that_differ_only_in_case_are_the_same_key(cls: Class) -> None:
    extractors = [lambda _: ("Authorization", "a"), lambda _: ("authorization", "b")]
    assert ask(cls, get(), extractors).credentials == {"authorization": "b"}


def test_extractors_get_the_request_once_and_never_on_excluded_paths(cls: Class) -> None:
    calls = []

    def from_query(request: Request) -> tuple[str, str]:
        assert isinstance(request, Request)
        calls.append(f"{request.method} {request.url.path}")
        return ("x-token", request.query_params["t"])

    for path in ("/a", "/health"):
        scope = get(path=path, method="PATCH", query_string=b"t=5")
        answer = ask(cls, scope, [from_query], {"/health"})
        assert answer.credentials == ({"x-token": "5"} if path == "/a" else {})
    assert calls == ["PATCH /a"]


def test_a_subclass_may_override_an_extractor(cls: Class) -> None:
    class Fixed(cls):  # type: ignore[misc]
        @staticmethod
        def extract_authorization_header(_: Request) -> tuple[str, str]:
            return ONE

    assert ask(Fixed, get()).credentials == {"x-a": "1"}


@pytest.mark.parametrize("name", ["authorization", "cookie", "X-Api-Key"])
def test_the_extractors_work_on_anything_with_headers(cls: Class, name: str) -> None:
    key = name.lower()
    extract = getattr(cls, f"extract_{name}_header", None) or cls.extract_custom_header(name)
    assert extract.__name__ == f"extract_{name.replace('-', '_')}_header"
    assert extract(SimpleNamespace(headers={key: "v"})) == (key, "v")
    assert extract(SimpleNamespace(headers={})) is None
    assert extract(SimpleNamespace(headers={key: ""})) is None
    assert extract(Request(get((key.encode(), b"v")))) == (key, "v")
    assert extract(Request(get())) is None


class CallableObject:
    """A callable object without a ``__name__``."""

    def __call__(self, request: Any) -> tuple[str, str]:
        return raising("s3cret", request)


@sdk_fails("a 500, or the exception's text is logged", raises=Exception)
@pytest.mark.parametrize(
    ("extractor", "logged"),
    [
        (functools.partial(raising, "s3cret"), "raising failed: RuntimeError"),
        (CallableObject(), "CallableObject failed: RuntimeError"),
        (lambda _: raising("s3cret", _), "<lambda> failed: RuntimeError"),
        (lambda _: "s3cret", "<lambda> failed: ValueError"),
    ],
)
def test_a_raising_extractor_is_logged_by_name_and_type_only(
    cls: Class, extractor: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert ask(cls, get(ALICE), [extractor]).status == 401
    [record] = [record for record in caplog.records if record.name != "asyncio"]
    assert record.getMessage() == f"Header extractor {logged}"
    told = (record.name, record.levelno, record.exc_info)
    assert told == ("passthrough_auth", logging.WARNING, None)
    assert "s3cret" not in caplog.text


def test_a_raising_extractor_is_skipped(cls: Class) -> None:
    extractors = [lambda _: raising("", _), lambda _: ONE]
    assert ask(cls, get(), extractors).credentials == {"x-a": "1"}


NO_PAIR = {
    "string": "ab",
    "one": ("authorization",),
    "three": ("authorization", "Bearer x", "y"),
    "empty": (),
    "blank value": ("authorization", " "),
    "blank key": (" ", "x"),
    "bytes": (b"authorization", b"Bearer x"),
    "None value": ("authorization", None),
    "number": 5,
    "dict": {"authorization": "Bearer x", "b": "c"},
    "object": object(),
    "key not a token": ("x key", "x"),
    "key with colon": (":authority", "x"),
    "key with newline": ("x-a\n", "x"),
    "key not ASCII": ("x-é", "x"),
    "surrogate value": ("x-a", "\ud800"),
}


@sdk_fails("anything that is not None counts as a credential", raises=Exception)
@pytest.mark.parametrize("result", NO_PAIR.values(), ids=NO_PAIR)
def test_only_pairs_of_strings_are_credentials(cls: Class, result: Any) -> None:
    answer = ask(cls, get(), [lambda _: result])
    assert answer.seen == []
    assert answer.status == 401


@pytest.mark.parametrize("result", [["x-a", "日本"], ("x-a", "日本")])
def test_a_pair_of_strings_is_a_credential(cls: Class, result: Any) -> None:
    assert ask(cls, get(), [lambda _: result]).credentials == {"x-a": "日本"}


def test_a_repeated_custom_header_is_joined_as_any_recipient_may(ours: Class) -> None:
    """RFC 9110 5.3; the SDK's class takes the first."""
    scope = get((b"x-api-key", b"a"), (b"x-api-key", b"b"))
    for extractor in (
        extract := ours.extract_custom_header("x-api-key"),
        functools.partial(extract),
    ):
        assert ask(ours, scope, [extractor]).credentials == {"x-api-key": "a, b"}


RESERVED = ["Accept-Encoding", "Connection", "Content-Length", "Content-Type", "Expect", "Host"]
RESERVED += ["TE", "HTTP2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization"]
RESERVED += ["Trailer", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "connect-timeout-ms"]
RESERVED += ["grpc-timeout", "connect-protocol-version", "content-encoding", "grpc-"]


@sdk_fails("names that steer the connection or the RPC are set")
@pytest.mark.parametrize("name", RESERVED)
def test_framing_and_hop_by_hop_names_are_never_set(cls: Class, name: str) -> None:
    assert ask(cls, get(), [lambda _: (name, "1"), lambda _: ONE]).credentials == {"x-a": "1"}


@pytest.mark.parametrize("name", [*RESERVED, "x key", "", "x-é"])
def test_an_extractor_for_a_reserved_name_is_refused(ours: Class, name: str) -> None:
    with pytest.raises(ValueError, match="not a header that may be set") as error:
        ours.extract_custom_header(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["x-host", "hosts", "contents", "x-content-type", "user", "t"])
def test_similar_names_are_set(cls: Class, name: str) -> None:
    assert ask(cls, get(), [lambda _: (name, "1")]).credentials == {name: "1"}


class Later:
    """An awaitable result, which may be dropped without a warning, unlike a coroutine."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self.find = find

    def __await__(self) -> Generator[None, None, Any]:
        yield
        return self.find()


@sdk_fails("a coroutine counts as a credential", raises=Exception)
@pytest.mark.parametrize(
    ("find", "found"),
    [
        (lambda request: ("x-key", request.headers["cookie"]), [{"x-key": "session=alice"}]),
        (lambda _: None, []),
        (lambda _: "ab", []),
        (lambda _: ("x-key", ""), []),
        (lambda _: raising("boom", _), []),
    ],
)
def test_an_async_extractor_is_awaited(
    cls: Class, find: Callable[[Any], Any], found: list[dict[str, str]]
) -> None:
    answer = ask(cls, get(COOKIE), [lambda request: Later(lambda: find(request))])
    assert answer.seen == found
    assert answer.status == (200 if found else 401)


def test_an_async_function_may_be_an_extractor(ours: Class) -> None:
    async def extractor(_: Request) -> tuple[str, str]:
        return ONE

    assert ask(ours, get(), [extractor]).credentials == {"x-a": "1"}
