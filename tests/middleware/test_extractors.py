"""Valid extractors, and valid results."""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Self

import pytest
from starlette.requests import Request

from .harness import ALICE, COOKIE, Class, Probe, ask, http_scope, request, sdk_fails


def test_a_list_of_extractors_replaces_the_defaults(middleware_class: Class) -> None:
    only_key = [middleware_class.extract_custom_header("X-Api-Key")]  # type: ignore[attr-defined]
    scope = http_scope(headers=[ALICE, COOKIE, (b"x-api-key", b"k")])
    assert ask(middleware_class, scope, header_extractors=only_key).credentials == {
        "x-api-key": "k"
    }
    assert ask(middleware_class, http_scope(headers=[ALICE]), only_key).status == 401


def test_without_extractors_every_request_is_refused(middleware_class: Class) -> None:
    assert ask(middleware_class, http_scope(headers=[ALICE, COOKIE]), []).status == 401


def test_the_list_of_extractors_may_change_later(middleware_class: Class) -> None:
    probe = Probe()
    app = middleware_class(probe)
    app.header_extractors.append(lambda _: ("x-more", "1"))
    answer = asyncio.run(request(app, http_scope(headers=[ALICE])))
    assert answer.status == 200
    assert probe.seen == [{"authorization": "Bearer alice", "x-more": "1"}]


def test_a_raising_extractor_is_skipped(middleware_class: Class) -> None:
    def broken(_: Request) -> tuple[str, str] | None:
        raise KeyError("boom")

    def found(_: Request) -> tuple[str, str] | None:
        return ("x-a", "1")

    assert ask(middleware_class, http_scope(), [broken]).status == 401
    assert ask(middleware_class, http_scope(), [broken, found]).credentials == {"x-a": "1"}


def test_a_later_extractor_wins_on_the_same_key(middleware_class: Class) -> None:
    extractors = [lambda _: ("x-a", "1"), lambda _: ("x-b", "2"), lambda _: ("x-a", "3")]
    assert ask(middleware_class, http_scope(), extractors).credentials == {"x-a": "3", "x-b": "2"}


def test_extractors_get_the_request(middleware_class: Class) -> None:
    def from_query(request: Request) -> tuple[str, str] | None:
        assert isinstance(request, Request)
        assert request.method == "PATCH"
        return ("x-token", request.query_params["t"])

    scope = http_scope("/p", method="PATCH", query_string=b"t=5")
    assert ask(middleware_class, scope, [from_query]).credentials == {"x-token": "5"}


def test_extractors_run_once_per_request_and_never_on_excluded_paths(
    middleware_class: Class,
) -> None:
    calls = []

    def counting(request: Request) -> tuple[str, str]:
        calls.append(request.url.path)
        return ("x-a", "1")

    app = middleware_class(Probe(), [counting], {"/health"})
    for path in ("/a", "/health", "/b"):
        asyncio.run(request(app, http_scope(path)))
    assert calls == ["/a", "/b"]


def test_a_subclass_may_override_an_extractor(middleware_class: Class) -> None:
    class Fixed(middleware_class):  # type: ignore[misc, valid-type]
        @staticmethod
        def extract_authorization_header(_: Request) -> tuple[str, str] | None:
            return ("authorization", "Bearer fixed")

    assert ask(Fixed, http_scope()).credentials == {"authorization": "Bearer fixed"}


@pytest.mark.parametrize("name", ["authorization", "cookie"])
def test_the_default_extractors_work_on_anything_with_headers(
    middleware_class: Class, name: str
) -> None:
    extract = getattr(middleware_class, f"extract_{name}_header")
    assert extract.__name__ == f"extract_{name}_header"
    assert extract(SimpleNamespace(headers={name: "v"})) == (name, "v")
    assert extract(SimpleNamespace(headers={})) is None
    assert extract(SimpleNamespace(headers={name: ""})) is None
    assert extract(Request(http_scope(headers=[(name.encode(), b"v")]))) == (name, "v")
    assert extract(Request(http_scope())) is None


def test_a_custom_extractor_lowers_its_key_and_has_a_telling_name(middleware_class: Class) -> None:
    extract = middleware_class.extract_custom_header("X-Api-Key")  # type: ignore[attr-defined]
    assert extract.__name__ == "extract_X_Api_Key_header"
    assert extract(SimpleNamespace(headers={"x-api-key": "v"})) == ("x-api-key", "v")
    assert extract(SimpleNamespace(headers={"x-api-key": ""})) is None
    assert extract(SimpleNamespace(headers={})) is None


class CallableObject:
    """A callable object without a ``__name__``."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, _: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def raising(text: str, request: Any) -> tuple[str, str] | None:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    ("extractor", "logged"),
    [
        pytest.param(
            functools.partial(raising, "s3cret"),
            "Header extractor raising failed: RuntimeError",
            marks=sdk_fails("a raising partial is a 500", raises=AttributeError),
            id="partial",
        ),
        pytest.param(
            CallableObject(RuntimeError("s3cret")),
            "Header extractor CallableObject failed: RuntimeError",
            marks=sdk_fails("a raising callable object is a 500", raises=AttributeError),
            id="object",
        ),
        pytest.param(
            lambda _: raising("s3cret", _),
            "Header extractor <lambda> failed: RuntimeError",
            marks=sdk_fails("the exception's text is logged"),
            id="function",
        ),
    ],
)
def test_a_raising_extractor_is_logged_by_name_and_type_only(
    middleware_class: Class, extractor: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = ask(middleware_class, http_scope(headers=[ALICE]), [extractor])
    assert answer.status == 401
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == [
        logged
    ]
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.records[-1].exc_info is None
    assert "s3cret" not in caplog.text


NO_PAIR = {
    "string": "ab",
    "one": ("authorization",),
    "three": ("authorization", "Bearer x", "y"),
    "empty": (),
    "blank value": ("authorization", " "),
    "blank key": (" ", "x"),
    "empty key": ("", "x"),
    "bytes": (b"authorization", b"Bearer x"),
    "bytes value": ("authorization", b"Bearer x"),
    "None value": ("authorization", None),
    "number": 5,
    "true": True,
    "dict": {"authorization": "Bearer x", "b": "c"},
    "set": {"authorization", "Bearer x"},
    "object": object(),
    "key not a token": ("x key", "x"),
    "key with colon": (":authority", "x"),
    "key with newline": ("x-a\n", "x"),
    "key not ASCII": ("x-é", "x"),
    "surrogate value": ("x-a", "\ud800"),
}


@sdk_fails("anything that is not None counts as a credential", raises=Exception)
@pytest.mark.parametrize("result", NO_PAIR.values(), ids=NO_PAIR.keys())
def test_only_pairs_of_strings_are_credentials(middleware_class: Class, result: Any) -> None:
    answer = ask(middleware_class, http_scope(), [lambda _: result])
    assert answer.refused
    assert answer.status == 401


def test_a_result_that_is_not_a_pair_is_logged_without_its_value(
    ours: Class, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(ours, http_scope(), [lambda _: "s3cret"]).status == 401
    assert caplog.messages == ["Header extractor <lambda> failed: ValueError"]


def test_a_repeated_custom_header_is_joined_as_any_recipient_may(ours: Any) -> None:
    """RFC 9110 5.3; the SDK's class takes the first."""
    scope = http_scope(headers=[(b"x-api-key", b"a"), (b"x-api-key", b"b")])
    answer = ask(ours, scope, [ours.extract_custom_header("x-api-key")])
    assert answer.credentials == {"x-api-key": "a, b"}


def test_text_that_an_extractor_decoded_itself_is_kept(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(), [lambda _: ("x-a", "日本")])
    assert answer.credentials == {"x-a": "日本"}


def test_a_list_of_two_strings_is_a_pair(middleware_class: Class) -> None:
    assert ask(middleware_class, http_scope(), [lambda _: ["x-a", "1"]]).credentials == {"x-a": "1"}


RESERVED = [
    "Accept-Encoding",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "TE",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Trailer",
    "Proxy-Connection",
    "Transfer-Encoding",
    "Upgrade",
    "connect-timeout-ms",
    "grpc-timeout",
    "connect-protocol-version",
    "content-encoding",
    "grpc-",
]


@sdk_fails("names that steer the connection or the RPC are set")
@pytest.mark.parametrize("name", RESERVED)
def test_framing_and_hop_by_hop_names_are_never_set(middleware_class: Class, name: str) -> None:
    extractors = [lambda _: (name, "1"), lambda _: ("x-a", "1")]
    assert ask(middleware_class, http_scope(), extractors).credentials == {"x-a": "1"}


@pytest.mark.parametrize("name", [*RESERVED, "x key", "", "x-é"])
def test_an_extractor_for_a_reserved_name_is_refused(ours: Any, name: str) -> None:
    with pytest.raises(ValueError, match="not a header that may be set") as error:
        ours.extract_custom_header(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["x-host", "hosts", "contents", "x-content-type", "user", "t"])
def test_similar_names_are_set(middleware_class: Class, name: str) -> None:
    assert ask(middleware_class, http_scope(), [lambda _: (name, "1")]).credentials == {name: "1"}


@sdk_fails("keys that differ in case are all sent")
def test_keys_that_differ_only_in_case_are_the_same_key(middleware_class: Class) -> None:
    extractors = [lambda _: ("Authorization", "a"), lambda _: ("authorization", "b")]
    assert ask(middleware_class, http_scope(), extractors).credentials == {"authorization": "b"}


class AsyncExtractor:
    """An async callable whose coroutines are closed even if the class under test drops them."""

    def __init__(self, find: Callable[[Any], Any]) -> None:
        self.find = find
        self.coroutines: list[Coroutine[Any, Any, Any]] = []

    def __call__(self, request: Any) -> Coroutine[Any, Any, Any]:
        async def extract() -> Any:
            await asyncio.sleep(0)
            return self.find(request)

        self.coroutines.append(extract())
        return self.coroutines[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for coroutine in self.coroutines:
            coroutine.close()


@sdk_fails("a coroutine counts as a credential", raises=Exception)
@pytest.mark.parametrize("result", [None, "ab", ("authorization", "")])
def test_an_async_extractor_that_finds_nothing_gives_a_401(
    middleware_class: Class, result: Any
) -> None:
    with AsyncExtractor(lambda _: result) as extractor:
        answer = ask(middleware_class, http_scope(headers=[ALICE]), [extractor])
    assert answer.refused
    assert answer.status == 401


@sdk_fails("a coroutine counts as a credential", raises=Exception)
def test_an_async_extractor_is_awaited(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"x-key", b"k")])
    with (
        AsyncExtractor(lambda _: raising("boom", _)) as failing,
        AsyncExtractor(lambda request: ("x-key", request.headers["x-key"])) as extractor,
    ):
        answer = ask(middleware_class, scope, [failing, extractor])
    assert answer.credentials == {"x-key": "k"}


def test_an_async_function_may_be_an_extractor(ours: Class) -> None:
    async def extractor(request: Request) -> tuple[str, str]:
        return ("x-key", request.headers["x-key"])

    scope = http_scope(headers=[(b"x-key", b"k")])
    assert ask(ours, scope, [extractor]).credentials == {"x-key": "k"}
