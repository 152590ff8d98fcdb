"""Tests of header extractors."""

import functools
import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from .harness import ALICE, COOKIE, Class, ask, case, echo_credentials, get

ONE = ("x-a", "1")


def raising(text: str, request: Any) -> tuple[str, str]:
    raise RuntimeError(text)


def test_header_extractors_replace_defaults(cls: Class) -> None:
    only_key = [cls.extract_custom_header("X-Api-Key")]
    result = ask(cls, get(ALICE, COOKIE, (b"x-api-key", b"k")), header_extractors=only_key)
    assert result.credentials == {"x-api-key": "k"}
    assert ask(cls, get(ALICE), only_key).status == 401
    assert ask(cls, get(ALICE, COOKIE), []).status == 401


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        case("the last", [ONE, ("x-b", "2"), ("x-a", "3")], {"x-a": "3", "x-b": "2"}),
        case("case", [("Cookie", "a"), ("cookie", "b")], {"cookie": "b"}),
        case("list", [["x-a", "日本"]], {"x-a": "日本"}),
        case("like a reserved one", [("hosts", "1"), ("x-te", "2")], {"hosts": "1", "x-te": "2"}),
    ],
)
def test_last_extractor_with_same_name_wins(
    cls: Class, results: list[Any], expected: dict[str, str]
) -> None:
    extractors = [lambda _, result=result: result for result in results]
    assert ask(cls, get(), extractors).credentials == expected


@pytest.mark.parametrize("name", ["authorization", "cookie", "X-Api-Key"])
def test_extractors_accept_any_object_with_headers(cls: Class, name: str) -> None:
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


@pytest.mark.parametrize(
    ("extractor", "logged"),
    [
        (functools.partial(raising, "s3cret"), "raising failed: RuntimeError"),
        (CallableObject(), "CallableObject failed: RuntimeError"),
        (lambda _: raising("s3cret", _), "<lambda> failed: RuntimeError"),
        (lambda _: "s3cret", "<lambda> failed: ValueError"),
    ],
)
def test_failed_extractor_is_logged_without_exception_message(
    cls: Class, extractor: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log contains the name of the extractor and the type of the error."""
    caplog.set_level(logging.DEBUG)
    assert ask(cls, get(ALICE), [extractor, lambda _: ONE]).credentials == {"x-a": "1"}
    [record] = [record for record in caplog.records if record.name != "asyncio"]
    assert record.getMessage() == f"Header extractor {logged}"
    fields = (record.name, record.levelno, record.exc_info)
    assert fields == ("passthrough_auth", logging.WARNING, None)
    assert "s3cret" not in caplog.text


RESERVED = ["Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "TE", "grpc-"]
RESERVED += ["HTTP2-Settings", "Keep-Alive", "Proxy-Authorization", "Trailer", "Upgrade"]
RESERVED += ["Transfer-Encoding", "connect-timeout-ms", "x key", "", "x-é"]
NO_PAIRS: list[Any] = ["ab", 5, (), ("authorization",), ("authorization", "Bearer x", "y")]
NO_PAIRS += [{"authorization": "Bearer x", "b": "c"}, (b"authorization", b"Bearer x")]
NO_PAIRS += [("authorization", " "), ("authorization", None), ("x-a", "\ud800")]
NO_PAIRS += [(" ", "x"), (":authority", "x"), ("x-a\n", "x"), *((name, "x") for name in RESERVED)]


@pytest.mark.parametrize("result", NO_PAIRS, ids=repr)
def test_invalid_extractor_results_are_ignored(cls: Class, result: Any) -> None:
    assert ask(cls, get(), [lambda _: result, lambda _: ONE]).credentials == {"x-a": "1"}


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_header_names_raise_value_error(cls: Class, name: str) -> None:
    """Framing and hop-by-hop headers are reserved."""
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        cls.extract_custom_header(name)


def test_repeated_custom_header_is_joined(cls: Class) -> None:
    """RFC 9110 5.3 allows joining; the SDK's class takes the first value."""
    scope = get((b"x-api-key", "é".encode()), (b"x-api-key", b"b"))
    extract = cls.extract_custom_header("x-api-key")
    for extractor in (extract, functools.partial(extract)):
        assert ask(cls, scope, [extractor]).credentials == {"x-api-key": "é, b"}


def test_extracted_header_with_invalid_utf8_is_refused(cls: Class) -> None:
    extract = functools.partial(cls.extract_custom_header("x-api-key"))
    assert ask(cls, get((b"x-api-key", b"\xff")), [extract]).refused("Malformed credentials")


def test_async_extractor_raises_type_error(cls: Class) -> None:
    async def extractor(request: Request) -> Any:
        raise AssertionError("this extractor must not run")

    for one in (extractor, functools.partial(extractor)):
        with pytest.raises(TypeError, match="an extractor cannot be async"):
            cls(echo_credentials, [one])
