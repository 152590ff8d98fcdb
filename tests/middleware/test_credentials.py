"""The credentials of a request, and values that are refused."""

import asyncio
import logging
from typing import Any

import pytest
from flyte import remote

from .harness import (
    ALICE,
    COOKIE,
    EVIL,
    NO_OPTION,
    Class,
    Extractors,
    Probe,
    ask,
    http_scope,
    request,
    sdk_fails,
    websocket_scope,
)


def test_without_credentials_the_answer_is_401_with_a_bearer_challenge(
    middleware_class: Class,
) -> None:
    answer = ask(middleware_class, http_scope())
    assert answer.refused
    assert answer.status == 401
    assert answer.body == b'{"detail":"Authentication credentials required"}'
    assert answer.header(b"www-authenticate") == [b"Bearer"]
    assert answer.header(b"content-type") == [b"application/json"]
    assert answer.header(b"content-length") == [b"%d" % len(answer.body)]
    assert [name for name, _ in answer.headers if name != name.lower()] == []


@pytest.mark.parametrize(
    "value", ["Bearer a.b.c", "Basic YTpi", "DPoP x", "token", "AWS4-HMAC-SHA256 a=b, c=d"]
)
def test_any_authorization_scheme_passes_verbatim(middleware_class: Class, value: str) -> None:
    answer = ask(middleware_class, http_scope(headers=[(b"authorization", value.encode())]))
    assert answer.credentials == {"authorization": value}


def test_a_cookie_alone_passes(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(headers=[(b"cookie", b'a=b; c="d e"; f=')]))
    assert answer.credentials == {"cookie": 'a=b; c="d e"; f='}


def test_authorization_comes_before_cookie(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(headers=[COOKIE, ALICE]))
    assert list(answer.credentials.items()) == [
        ("authorization", "Bearer alice"),
        ("cookie", "session=alice"),
    ]


def test_other_headers_are_not_forwarded(middleware_class: Class) -> None:
    extra = [(b"x-api-key", b"k"), (b"proxy-authorization", b"Basic x"), (b"accept", b"*/*")]
    answer = ask(middleware_class, http_scope(headers=[ALICE, *extra]))
    assert answer.credentials == {"authorization": "Bearer alice"}


def test_metadata_goes_through_flyte_remote_auth_metadata(
    middleware_class: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = remote.auth_metadata

    def recording(*pairs: tuple[str, str]) -> Any:
        calls.append(pairs)
        return real(*pairs)

    monkeypatch.setattr(remote, "auth_metadata", recording)
    scope = http_scope(headers=[ALICE, COOKIE])
    assert ask(middleware_class, scope).credentials["cookie"] == "session=alice"
    assert calls == [(("authorization", "Bearer alice"), ("cookie", "session=alice"))]


@sdk_fails("the first of two Authorization headers wins")
def test_two_different_authorization_headers_are_refused(
    middleware_class: Class, extractors: Extractors
) -> None:
    scope = http_scope(headers=[ALICE, (b"authorization", b"Bearer bob")])
    answer = ask(middleware_class, scope, extractors)
    assert answer.refused
    assert answer.status == 400
    assert answer.body == b'{"detail":"Conflicting Authorization headers"}'


@pytest.mark.parametrize(
    "others",
    [
        [ALICE],
        [(b"authorization", b"")],
        [(b"authorization", b" \t")],
        [(b"authorization", b""), ALICE],
    ],
)
def test_a_repeated_or_blank_authorization_header_is_no_conflict(
    middleware_class: Class, others: list[tuple[bytes, bytes]]
) -> None:
    answer = ask(middleware_class, http_scope(headers=[ALICE, *others]))
    assert answer.credentials == {"authorization": "Bearer alice"}


@sdk_fails("a blank first header hides the second")
def test_a_blank_authorization_header_does_not_hide_another(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(headers=[(b"authorization", b""), ALICE]))
    assert answer.credentials == {"authorization": "Bearer alice"}


@sdk_fails("only the first of several Cookie headers is read")
def test_several_cookie_headers_are_joined(middleware_class: Class, extractors: Extractors) -> None:
    scope = http_scope(
        headers=[(b"cookie", b"a=1"), (b"cookie", b" "), (b"cookie", b"b=2"), (b"cookie", b"a=3")]
    )
    answer = ask(middleware_class, scope, extractors)
    assert answer.credentials == {"cookie": "a=1; b=2; a=3"}


BLANK = sdk_fails("blank counts as a credential")
BLANKS = [b"", pytest.param(b" ", marks=BLANK), pytest.param(b"\t ", marks=BLANK)]


@pytest.mark.parametrize("name", [b"authorization", b"cookie"])
@pytest.mark.parametrize("value", BLANKS)
def test_a_blank_value_is_ignored(
    middleware_class: Class, extractors: Extractors, name: bytes, value: bytes
) -> None:
    scope = http_scope(headers=[(name, value)])
    assert ask(middleware_class, scope, extractors).status == 401


@pytest.mark.parametrize("value", BLANKS)
def test_a_blank_custom_header_is_ignored(middleware_class: Class, value: bytes) -> None:
    extract = middleware_class.extract_custom_header("x-api-key")  # type: ignore[attr-defined]
    assert ask(middleware_class, http_scope(headers=[(b"x-api-key", value)]), [extract]).refused


@BLANK
@pytest.mark.parametrize("blank", ["\u00a0", "\u2003\u0085"])
def test_non_ascii_whitespace_counts_as_blank(
    middleware_class: Class, extractors: Extractors, blank: str
) -> None:
    scope = http_scope(headers=[(b"authorization", blank.encode())])
    assert ask(middleware_class, scope, extractors).status == 401


BAD_VALUES = {
    "NUL": b"Bearer s3cret\x00",
    "CR": b"Bearer s3cret\rx",
    "LF": b"Bearer s3cret\nx-evil: 1",
    "control": b"Bearer s3cret\x01",
    "DEL": b"Bearer s3cret\x7f",
    "latin-1": b"Bearer s3cret\xe9",
    "cut UTF-8": b"Bearer s3cret\xc3",
    "UTF-8 surrogate": b"Bearer s3cret\xed\xa0\x80",
    "replacement character": b"Bearer s3cret\xef\xbf\xbd",
}


@sdk_fails("values that cannot be sent as they came are accepted, and fail later")
@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"x-api-key"])
def test_a_value_that_cannot_be_sent_is_refused_and_not_shown(
    middleware_class: Class, name: bytes, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cls: Any = middleware_class
    extractors = [cls.extract_custom_header("x-api-key")] if name == b"x-api-key" else None
    answer = ask(cls, http_scope(headers=[(name, value)]), extractors)
    assert answer.refused
    assert answer.status == 400
    assert answer.body == b'{"detail":"Malformed credentials"}'
    assert "s3cret" not in caplog.text


@sdk_fails("values that cannot be sent as they came are accepted, and fail later")
def test_bytes_that_are_not_utf_8_are_refused_by_every_extractor(
    middleware_class: Class, extractors: Extractors
) -> None:
    scope = http_scope(headers=[(b"authorization", b"Bearer \xff")])
    assert ask(middleware_class, scope, extractors).status == 400


@sdk_fails("values of any length are accepted")
def test_an_absurdly_long_value_is_refused(middleware_class: Class, extractors: Extractors) -> None:
    longest = http_scope(headers=[(b"authorization", b"x" * 65_536)])
    assert ask(middleware_class, longest, extractors).status == 200
    answer = ask(
        middleware_class, http_scope(headers=[(b"authorization", b"x" * 65_537)]), extractors
    )
    assert answer.refused
    assert answer.status == 431
    assert answer.body == b'{"detail":"Credentials too large"}'


@sdk_fails("UTF-8 is read as Latin-1 and sent as something else")
@pytest.mark.parametrize("text", ["Bearer é", "Bearer 日本", "Bearer 🔑"])
def test_utf_8_is_kept(middleware_class: Class, extractors: Extractors, text: str) -> None:
    scope = http_scope(headers=[(b"authorization", text.encode())])
    answer = ask(middleware_class, scope, extractors)
    assert answer.credentials == {"authorization": text}


def test_tabs_and_spaces_inside_a_value_are_kept(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"authorization", b" Bearer \t  x ")])
    assert ask(middleware_class, scope).credentials == {"authorization": " Bearer \t  x "}


@sdk_fails(NO_OPTION, raises=TypeError)
def test_optional_credentials_let_an_anonymous_request_pass(middleware_class: Class) -> None:
    assert ask(middleware_class, http_scope(), required=False).credentials == {}
    assert ask(middleware_class, websocket_scope(), required=False).credentials == {}
    scope = http_scope(headers=[ALICE])
    assert ask(middleware_class, scope, required=False).credentials == {
        "authorization": "Bearer alice"
    }


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([ALICE, (b"authorization", b"Bearer bob")], 400),
        ([(b"authorization", b"\x00")], 400),
        ([COOKIE, EVIL], 403),
    ],
)
def test_optional_credentials_are_still_checked(
    middleware_class: Class, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    scope = http_scope(headers=headers, method="POST")
    assert ask(middleware_class, scope, required=False).status == status


def test_optional_credentials_keep_ambient_metadata(ours: Class) -> None:
    probe = Probe()

    async def run() -> None:
        with remote.auth_metadata(("x-ambient", "1")):
            await request(ours(probe, required=False), http_scope())

    asyncio.run(run())
    assert probe.seen == [{"x-ambient": "1"}]
