"""What holds of one request, in process; for both classes unless marked otherwise."""

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Self

import pytest
from flyte import remote
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from .harness import (
    Answer,
    Probe,
    ask,
    http_scope,
    metadata,
    raw_metadata,
    request,
    websocket_scope,
)

Class = Callable[..., Any]

ALICE = (b"authorization", b"Bearer alice")
COOKIE = (b"cookie", b"session=alice")
NO_OPTION = "the SDK's class has no such option"
sdk_fails = pytest.mark.sdk_fails
# CVE-2026-48710; the newest Starlette takes the sting out of it for the SDK's class as well.
URL_OF_HOST = sdk_fails(
    "the path is read from a URL made of the Host header",
    raises=(AssertionError, ValueError),
    strict=False,
)
REPARSED = sdk_fails("the path is read from a URL that is parsed again", strict=False)


# ------------------------------------------------------------------------------ as with the SDK


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


def test_a_list_of_extractors_replaces_the_defaults(middleware_class: Class) -> None:
    only_key = [middleware_class.extract_custom_header("X-Api-Key")]  # type: ignore[attr-defined]
    scope = http_scope(headers=[ALICE, COOKIE, (b"x-api-key", b"k")])
    assert ask(middleware_class, scope, header_extractors=only_key).credentials == {
        "x-api-key": "k"
    }
    assert ask(middleware_class, http_scope(headers=[ALICE]), only_key).status == 401


def test_an_empty_list_of_extractors_admits_nobody(middleware_class: Class) -> None:
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


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/health/",
            "/healthz",
            "/Health",
            "//health",
            "/x/health",
            "/health/x",
            "/",
            "/heal",
            "",
        ),
        *("/health;a", "/health%2f", "/./health", "/x/../health", "/health\\"),
        pytest.param("/health?x", marks=REPARSED),
        pytest.param("/health#x", marks=REPARSED),
    ],
)
def test_an_excluded_path_is_compared_whole_and_exact(middleware_class: Class, path: str) -> None:
    assert ask(middleware_class, http_scope("/health"), None, {"/health"}).credentials == {}
    assert ask(middleware_class, http_scope(path), None, {"/health"}).status == 401


def test_root_path_does_not_widen_an_excluded_path(middleware_class: Class) -> None:
    excluded = {"/health"}
    behind = http_scope("/api/health", root_path="/api")
    assert ask(middleware_class, behind, None, excluded).status == 401
    assert ask(middleware_class, behind, None, {"/api/health"}).credentials == {}


def test_a_mount_does_not_widen_an_excluded_path(middleware_class: Class) -> None:
    probe = Probe()
    inner = middleware_class(probe, None, {"/health"})
    outer = Starlette(routes=[Mount("/sub", app=inner)])
    assert asyncio.run(request(outer, http_scope("/sub/health"))).status == 401
    inner.excluded_paths.add("/sub/health")
    assert asyncio.run(request(outer, http_scope("/sub/health"))).status == 200
    assert probe.seen == [{}]


def test_credentials_are_not_looked_at_on_excluded_paths(middleware_class: Class) -> None:
    scope = http_scope("/health", headers=[ALICE])
    assert ask(middleware_class, scope, None, {"/health"}).credentials == {}


def test_a_path_excluded_later_counts(middleware_class: Class) -> None:
    paths = {"/health"}
    app = middleware_class(Probe(), None, paths)
    assert asyncio.run(request(app, http_scope("/late"))).status == 401
    paths.add("/late")
    assert asyncio.run(request(app, http_scope("/late"))).status == 200


def test_ambient_metadata_survives_on_excluded_paths_only(middleware_class: Class) -> None:
    probe = Probe()
    app = middleware_class(probe, None, {"/health"})

    async def run() -> None:
        with remote.auth_metadata(("x-ambient", "1")):
            await request(app, http_scope("/health"))
            await request(app, http_scope("/", headers=[ALICE]))
            assert metadata() == {"x-ambient": "1"}
        assert metadata() == {}

    asyncio.run(run())
    assert probe.seen == [{"x-ambient": "1"}, {"authorization": "Bearer alice"}]


def test_of_stacked_instances_the_inner_wins(middleware_class: Class) -> None:
    probe = Probe()
    inner = middleware_class(probe, [lambda _: ("x-inner", "1")], {"/inner-excluded"})
    app = middleware_class(inner)
    asyncio.run(request(app, http_scope(headers=[ALICE])))
    asyncio.run(request(app, http_scope("/inner-excluded", headers=[ALICE])))
    assert probe.seen == [{"x-inner": "1"}, {"authorization": "Bearer alice"}]


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


@pytest.mark.parametrize("kind", ["lifespan", "something.else"])
def test_other_scopes_pass_untouched(middleware_class: Class, kind: str) -> None:
    passed: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        passed.append(arguments)

    given = ({"type": kind}, object(), object())
    asyncio.run(middleware_class(app)(*given))
    assert [all(a is b for a, b in zip(passed[0], given, strict=True))] == [True]


def test_exceptions_propagate_and_leave_the_context_clean(middleware_class: Class) -> None:
    class BoomError(Exception):
        pass

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise BoomError

    async def run() -> None:
        with pytest.raises(BoomError):
            await request(middleware_class(failing), http_scope(headers=[ALICE]))
        assert metadata() == {}

    asyncio.run(run())


def test_cancellation_propagates_and_leaves_the_context_clean(middleware_class: Class) -> None:
    entered = asyncio.Event()
    outcome: list[Any] = []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append(metadata())
            raise

    async def run() -> None:
        async def serving() -> None:
            try:
                await request(middleware_class(waiting), http_scope(headers=[ALICE]))
            finally:
                outcome.append(metadata())

        task = asyncio.create_task(serving())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert outcome == [{"authorization": "Bearer alice"}, {}]


def test_thousands_of_interleaved_callers_never_mix(middleware_class: Class) -> None:
    mixed = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        mine = dict(scope["headers"])[b"authorization"].decode()
        for _ in range(3):
            await asyncio.sleep(0)
            if metadata() != {"authorization": mine}:
                mixed.append(mine)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": mine.encode()})

    app = middleware_class(slow)

    async def one(number: int) -> None:
        token = b"Bearer %d" % number
        answer = await request(app, http_scope(headers=[(b"authorization", token)]))
        assert answer.body == token

    async def run() -> None:
        await asyncio.gather(*(one(number) for number in range(2000)))

    asyncio.run(run())
    assert mixed == []


def test_dispatch_may_be_called_directly(middleware_class: Class) -> None:
    app = middleware_class(Probe(), None, {"/health"})
    seen = []

    async def call_next(request: Request) -> Response:
        seen.append((request.url.path, metadata()))
        return PlainTextResponse("next")

    async def run(*scopes: Scope) -> list[Response]:
        responses = [await app.dispatch(Request(scope), call_next) for scope in scopes]
        assert metadata() == {}
        return responses

    with_alice, health, nobody = asyncio.run(
        run(http_scope("/", [ALICE]), http_scope("/health", [ALICE]), http_scope("/"))
    )
    assert (with_alice.body, health.body) == (b"next", b"next")
    assert seen == [("/", {"authorization": "Bearer alice"}), ("/health", {})]
    assert nobody.status_code == 401
    assert nobody.body == b'{"detail":"Authentication credentials required"}'
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert nobody.headers["content-type"] == "application/json"


def test_dispatch_returns_whatever_call_next_returns(middleware_class: Class) -> None:
    async def call_next(request: Request) -> Any:
        return "not a response"

    app = middleware_class(Probe())
    answer = asyncio.run(app.dispatch(Request(http_scope(headers=[COOKIE])), call_next))
    assert answer == "not a response"


def test_a_subclass_may_override_dispatch(middleware_class: Class) -> None:
    class Stamping(middleware_class):  # type: ignore[misc, valid-type]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            assert metadata() == {}
            if request.url.path == "/teapot":
                return PlainTextResponse("short and stout", 418)
            response: Response = await super().dispatch(request, call_next)
            response.headers["x-stamp"] = "1"
            return response

    scope = http_scope(headers=[ALICE])
    answer = ask(Stamping, scope)
    assert answer.credentials == {"authorization": "Bearer alice"}
    assert answer.header(b"x-stamp") == [b"1"]
    assert ask(Stamping, http_scope()).status == 401
    assert ask(Stamping, http_scope("/teapot")).status == 418


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


def test_a_custom_extractor_lowers_its_key_and_has_a_telling_name(middleware_class: Class) -> None:
    extract = middleware_class.extract_custom_header("X-Api-Key")  # type: ignore[attr-defined]
    assert extract.__name__ == "extract_X_Api_Key_header"
    assert extract(SimpleNamespace(headers={"x-api-key": "v"})) == ("x-api-key", "v")
    assert extract(SimpleNamespace(headers={"x-api-key": ""})) is None
    assert extract(SimpleNamespace(headers={})) is None


def test_background_work_of_the_request_has_its_credentials(middleware_class: Class) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def child() -> None:
            seen.append(metadata())

        await asyncio.create_task(child())
        await asyncio.to_thread(lambda: seen.append(metadata()))
        await Probe()(scope, receive, send)
        seen.append(metadata())

    asyncio.run(request(middleware_class(app), http_scope(headers=[ALICE])))
    assert seen == [{"authorization": "Bearer alice"}] * 3


# ------------------------------------------------------------- better: the server's own context


@sdk_fails("what the server does inside receive() inherits the caller's credentials")
@pytest.mark.parametrize("subclass", [False, True], ids=["class", "subclass"])
@pytest.mark.parametrize("ambient", [(), (("x-ambient", "1"),)], ids=["bare", "ambient"])
def test_the_server_callables_never_run_with_the_callers_credentials(
    middleware_class: Class, subclass: bool, ambient: tuple[tuple[str, str], ...]
) -> None:
    seen: dict[str, list[Any]] = {"receive": [], "send": [], "app": [], "within": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen["app"].append(metadata())
        message = await receive()
        seen["app"].append((message["body"], metadata()))
        with remote.auth_metadata(("x-nested", "1")):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            seen["within"].append(metadata())
        await send({"type": "http.response.body", "body": b""})
        seen["app"].append(metadata())

    class Overriding(middleware_class):  # type: ignore[misc, valid-type]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await super().dispatch(request, call_next)
            return response

    async def receive() -> Message:
        seen["receive"].append(raw_metadata())
        await asyncio.sleep(0)
        seen["receive"].append(raw_metadata())
        return {"type": "http.request", "body": b"body", "more_body": False}

    async def send(message: Message) -> None:
        seen["send"].append(raw_metadata())
        await asyncio.sleep(0)
        seen["send"].append(raw_metadata())

    async def run() -> None:
        wrapped = (Overriding if subclass else middleware_class)(app)
        if ambient:
            with remote.auth_metadata(*ambient):
                await wrapped(http_scope(headers=[ALICE]), receive, send)
        else:
            await wrapped(http_scope(headers=[ALICE]), receive, send)

    asyncio.run(run())
    alice = {"authorization": "Bearer alice"}
    assert seen["app"] == [alice, (b"body", alice), alice]
    assert seen["within"] == [{"x-nested": "1"}]
    assert set(seen["receive"]) == {ambient}
    assert set(seen["send"]) == {ambient}


@pytest.mark.parametrize("failing", ["receive", "send"])
@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
def test_the_credentials_are_back_after_a_server_callable_raised(
    ours: Class, failing: str, error: type[BaseException]
) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await (receive() if failing == "receive" else send({"type": "http.response.start"}))
        except error:
            seen.append(metadata())

    async def broken(*_: Any) -> Any:
        raise error

    asyncio.run(ours(app)(http_scope(headers=[ALICE]), broken, broken))
    assert seen == [{"authorization": "Bearer alice"}]


# ----------------------------------------------------------------------- better: transparency


@sdk_fails("BaseHTTPMiddleware runs the endpoint in another task", raises=LookupError)
def test_context_variables_of_the_endpoint_are_visible_outside(middleware_class: Class) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        variable.set("endpoint")
        await Probe()(scope, receive, send)

    async def run() -> None:
        async def send(message: Message) -> None:
            seen.append(variable.get())

        await middleware_class(app)(http_scope(headers=[ALICE]), _no_receive, send)
        seen.append(variable.get())

    asyncio.run(run())
    assert seen == ["endpoint"] * 3


async def _no_receive() -> Message:
    raise AssertionError("nothing to receive")


@sdk_fails("BaseHTTPMiddleware turns every message into its own", raises=AssertionError)
def test_messages_pass_as_they_are(middleware_class: Class) -> None:
    sent: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.body", "body": b"", "more_body": True},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"x-t", b"1")], "more_trailers": False},
    ]
    inbox = [{"type": "http.request", "body": b"b", "more_body": False, "x": 1}]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() is first
        for message in sent:
            await send(message)

    first = inbox[0]
    arrived = []

    async def run() -> None:
        async def receive() -> Message:
            return inbox.pop()

        async def send(message: Message) -> None:
            arrived.append(message)

        await middleware_class(app)(http_scope(headers=[ALICE]), receive, send)

    asyncio.run(run())
    assert [a is b for a, b in zip(arrived, sent, strict=True)] == [True] * 5


def test_nothing_is_sent_ahead_of_a_slow_client(middleware_class: Class) -> None:
    produced, taken = [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(10):
            produced.append(number)
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 9})

    async def run() -> None:
        async def send(message: Message) -> None:
            await asyncio.sleep(0)
            taken.append(message)
            assert len(produced) - len(taken) < 3

        await middleware_class(app)(http_scope(headers=[ALICE]), _no_receive, send)

    asyncio.run(run())
    assert b"".join(message.get("body", b"") for message in taken) == b"x" * 10


# ------------------------------------------------------------------------- better: WebSockets


WEBSOCKET = "the SDK's class lets every WebSocket through, unauthenticated"
DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


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


def test_a_websocket_of_a_subclass_with_its_own_dispatch_is_judged(ours: Class) -> None:
    class Overriding(ours):  # type: ignore[misc, valid-type]
        async def dispatch(self, *_: Any) -> Response:
            raise AssertionError("not for WebSockets")

    assert ask(Overriding, websocket_scope()).refused
    answer = ask(Overriding, websocket_scope(headers=[ALICE]))
    assert answer.credentials == {"authorization": "Bearer alice"}


# ------------------------------------------------------------------------------ better: paths


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(b"a/health?", marks=URL_OF_HOST),
        pytest.param(b"a/health#", marks=URL_OF_HOST),
        b"a/health",
        b"",
        pytest.param(b"[", marks=URL_OF_HOST),
        b"a:b:c",
        b"\xff",
    ],
)
def test_the_host_header_has_no_say_in_the_path(middleware_class: Class, host: bytes) -> None:
    scope = http_scope("/admin")
    scope["headers"] = [(b"host", host)]
    assert ask(middleware_class, scope, None, {"/health"}).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/",
        pytest.param("/a", marks=sdk_fails("a string becomes a substring test")),
        pytest.param("/health", marks=sdk_fails("a string becomes a substring test")),
        pytest.param("", marks=sdk_fails("a string becomes a substring test")),
    ],
)
def test_a_string_of_excluded_paths_is_one_path(middleware_class: Class, path: str) -> None:
    assert ask(middleware_class, http_scope("/a/health"), None, "/a/health").status == 200
    if path != "/":
        assert ask(middleware_class, http_scope(path), None, "/a/health").status == 401


@sdk_fails("an empty set is replaced by another one")
def test_a_path_added_to_an_empty_set_counts(middleware_class: Class) -> None:
    paths: set[str] = set()
    app = middleware_class(Probe(), None, paths)
    paths.add("/late")
    assert asyncio.run(request(app, http_scope("/late"))).status == 200


@sdk_fails("the URL is decoded as UTF-8", raises=UnicodeDecodeError)
def test_a_query_string_that_is_not_utf_8_does_not_fail(middleware_class: Class) -> None:
    scope = http_scope("/", headers=[ALICE], query_string=b"q=\xff\xfe")
    assert ask(middleware_class, scope).status == 200


# ---------------------------------------------------------------------- better: header values


@sdk_fails("the first of two Authorization headers wins")
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_two_different_authorization_headers_are_refused(
    middleware_class: Class, path: str
) -> None:
    extractors = None if path == "default" else [lambda _: ("x-a", "1")]
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
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_several_cookie_headers_are_joined(middleware_class: Class, path: str) -> None:
    extract = middleware_class.extract_cookie_header  # type: ignore[attr-defined]
    scope = http_scope(
        headers=[(b"cookie", b"a=1"), (b"cookie", b" "), (b"cookie", b"b=2"), (b"cookie", b"a=3")]
    )
    answer = ask(middleware_class, scope, None if path == "default" else [extract])
    assert answer.credentials == {"cookie": "a=1; b=2; a=3"}


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"x-api-key"])
@pytest.mark.parametrize(
    "value", [b"", pytest.param(b" ", marks=sdk_fails("blank counts as a credential")), b"\t "]
)
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_a_blank_value_is_absent(
    middleware_class: Class, name: bytes, value: bytes, path: str
) -> None:
    if value == b"\t " and middleware_class.__module__.startswith("flyte."):
        value = b""  # the same finding as " "
    cls: Any = middleware_class
    extractors = [
        cls.extract_authorization_header,
        cls.extract_cookie_header,
        cls.extract_custom_header("x-api-key"),
    ]
    scope = http_scope(headers=[(name, value)])
    if name == b"x-api-key" and path == "default" and value == b" ":
        scope = http_scope(headers=[(b"authorization", value)])
    assert ask(cls, scope, None if path == "default" else extractors).status == 401


@sdk_fails("blank counts as a credential")
@pytest.mark.parametrize("blank", ["\u00a0", "\u2003\u0085"])
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_blanks_beyond_ascii_are_blank(middleware_class: Class, blank: str, path: str) -> None:
    extract = middleware_class.extract_authorization_header  # type: ignore[attr-defined]
    scope = http_scope(headers=[(b"authorization", blank.encode())])
    assert ask(middleware_class, scope, None if path == "default" else [extract]).status == 401


BAD_VALUES = {
    "NUL": b"Bearer s3cret\x00",
    "CR": b"Bearer s3cret\rx",
    "LF": b"Bearer s3cret\nx-evil: 1",
    "control": b"Bearer s3cret\x01",
    "DEL": b"Bearer s3cret\x7f",
    "latin-1": b"Bearer s3cret\xe9",
    "cut UTF-8": b"Bearer s3cret\xc3",
    "UTF-8 surrogate": b"Bearer s3cret\xed\xa0\x80",
}


@sdk_fails("values that cannot be sent as they came are accepted, and fail later")
@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"x-api-key"])
def test_a_value_that_cannot_be_sent_is_refused_and_never_shown(
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


@sdk_fails("values of any length are accepted")
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_an_absurdly_long_value_is_refused(middleware_class: Class, path: str) -> None:
    extract = middleware_class.extract_authorization_header  # type: ignore[attr-defined]
    extractors = None if path == "default" else [extract]
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
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_utf_8_is_kept(middleware_class: Class, text: str, path: str) -> None:
    extract = middleware_class.extract_authorization_header  # type: ignore[attr-defined]
    scope = http_scope(headers=[(b"authorization", text.encode())])
    answer = ask(middleware_class, scope, None if path == "default" else [extract])
    assert answer.credentials == {"authorization": text}


def test_tabs_and_spaces_inside_a_value_are_kept(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"authorization", b" Bearer \t  x ")])
    assert ask(middleware_class, scope).credentials == {"authorization": " Bearer \t  x "}


# ------------------------------------------------------------------------- better: extractors


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
def test_what_is_not_a_pair_of_strings_is_no_credential(
    middleware_class: Class, result: Any
) -> None:
    answer = ask(middleware_class, http_scope(), [lambda _: result])
    assert answer.refused
    assert answer.status == 401


def test_text_that_an_extractor_decoded_itself_is_kept(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(), [lambda _: ("x-a", "日本")])
    assert answer.credentials == {"x-a": "日本"}


def test_a_list_of_two_strings_is_a_pair(middleware_class: Class) -> None:
    assert ask(middleware_class, http_scope(), [lambda _: ["x-a", "1"]]).credentials == {"x-a": "1"}


RESERVED = [
    *("Accept-Encoding", "Connection", "Content-Length", "Content-Type", "Expect", "Host", "TE"),
    *("HTTP2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Trailer"),
    *("Proxy-Connection", "Transfer-Encoding", "Upgrade", "connect-timeout-ms", "grpc-timeout"),
    *("connect-protocol-version", "content-encoding", "grpc-"),
]


@sdk_fails("names that steer the connection or the RPC are set")
@pytest.mark.parametrize("name", RESERVED)
def test_framing_and_hop_by_hop_names_are_never_set(middleware_class: Class, name: str) -> None:
    extractors = [lambda _: (name, "1"), lambda _: ("x-a", "1")]
    assert ask(middleware_class, http_scope(), extractors).credentials == {"x-a": "1"}


@pytest.mark.parametrize("name", ["x-host", "hosts", "contents", "x-content-type", "user", "t"])
def test_names_that_only_look_like_those_are_set(middleware_class: Class, name: str) -> None:
    assert ask(middleware_class, http_scope(), [lambda _: (name, "1")]).credentials == {name: "1"}


@sdk_fails("keys that differ in case are all sent")
def test_keys_that_differ_in_case_are_one_key(middleware_class: Class) -> None:
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
def test_an_async_extractor_that_finds_nothing_admits_nobody(
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


# ------------------------------------------------------------------------------- better: CORS


PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]


@sdk_fails("preflights are refused")
def test_a_preflight_passes_without_credentials(middleware_class: Class) -> None:
    answer = ask(middleware_class, http_scope(headers=PREFLIGHT, method="OPTIONS"))
    assert answer.status == 200
    assert answer.credentials == {}
    scope = http_scope(method="OPTIONS")
    scope["headers"] = PREFLIGHT
    assert ask(middleware_class, scope).credentials == {}


def test_a_preflight_with_credentials_is_an_ordinary_request(middleware_class: Class) -> None:
    scope = http_scope(headers=[*PREFLIGHT, ALICE], method="OPTIONS")
    assert ask(middleware_class, scope).credentials == {"authorization": "Bearer alice"}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", []),
        ("OPTIONS", PREFLIGHT[:1]),
        ("OPTIONS", PREFLIGHT[1:]),
        ("OPTIONS", [PREFLIGHT[0], (b"access-control-request-method", b"")]),
        ("OPTIONS", [(b"origin", b" "), PREFLIGHT[1]]),
        ("options", PREFLIGHT),
        ("GET", PREFLIGHT),
        ("POST", PREFLIGHT),
    ],
)
def test_what_is_not_quite_a_preflight_is_refused(
    middleware_class: Class, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    assert ask(middleware_class, http_scope(headers=headers, method=method)).status == 401


@sdk_fails("preflights are refused")
def test_cors_middleware_inside_answers_preflights(middleware_class: Class) -> None:
    inside = Middleware(CORSMiddleware, allow_origins=["https://ui.example"], allow_methods=["*"])
    app = Starlette(middleware=[Middleware(middleware_class), inside])
    answer = asyncio.run(request(app, http_scope(headers=PREFLIGHT, method="OPTIONS")))
    assert answer.status == 200
    assert answer.header(b"access-control-allow-origin") == [b"https://ui.example"]


def test_refusals_get_cors_headers_from_cors_middleware_outside(middleware_class: Class) -> None:
    outside = Middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    app = Starlette(middleware=[outside, Middleware(middleware_class)])
    for _ in range(2):  # the second answer must not carry what was added to the first
        answer = asyncio.run(request(app, http_scope(headers=PREFLIGHT[:1])))
        assert answer.status == 401
        assert answer.header(b"access-control-allow-origin") == [b"https://ui.example"]
    assert asyncio.run(request(app, http_scope())).header(b"access-control-allow-origin") == []


# -------------------------------------------------------------- better: cookies from elsewhere


CROSS_SITE = "a cookie is taken from any site"
HOST = [(b"host", b"app.example.com")]
EVIL = (b"origin", b"https://evil.example")
AMBIENT = {
    "cookie": COOKIE,
    "Basic": (b"authorization", b"Basic YTpi"),
    "digest": (b"authorization", b"digest username=a"),
    "Negotiate": (b"authorization", b"Negotiate YII="),
    "NTLM": (b"authorization", b"NTLM TlR="),
}
ELSEWHERE = {
    "cross-site": [(b"sec-fetch-site", b"cross-site")],
    "same-site": [(b"sec-fetch-site", b"same-site")],
    "unknown": [(b"sec-fetch-site", b"same-origin, cross-site")],
    "repeated": [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")],
    "case": [(b"sec-fetch-site", b"Same-Origin")],
    "fetch before origin": [
        (b"sec-fetch-site", b"same-site"),
        (b"origin", b"https://app.example.com"),
    ],
    "origin": [EVIL],
    "subdomain": [(b"origin", b"https://x.app.example.com")],
    "suffix": [(b"origin", b"https://app.example.com.evil.example")],
    "prefix": [(b"origin", b"https://evilapp.example.com")],
    "port": [(b"origin", b"https://app.example.com:8443")],
    "null": [(b"origin", b"null")],
    "no scheme": [(b"origin", b"app.example.com")],
    "two schemes": [(b"origin", b"https://x://app.example.com")],
    "repeated origin": [(b"origin", b"https://app.example.com"), EVIL],
}


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.parametrize("credential", AMBIENT.values(), ids=AMBIENT.keys())
def test_an_unsafe_request_from_elsewhere_cannot_ride_on_ambient_credentials(
    middleware_class: Class, headers: list[tuple[bytes, bytes]], credential: tuple[bytes, bytes]
) -> None:
    answer = ask(middleware_class, http_scope(headers=[credential, *headers], method="POST"))
    assert answer.refused
    assert answer.status == 403
    assert answer.body == b'{"detail":"Cross-site request refused"}'


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "QUERY", ""])
def test_every_method_but_the_safe_ones_is_unsafe(middleware_class: Class, method: str) -> None:
    scope = http_scope(headers=[COOKIE, EVIL], method=method)
    assert ask(middleware_class, scope).status == 403


@sdk_fails(WEBSOCKET)
@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_websocket_from_elsewhere_cannot_ride_on_a_cookie(
    middleware_class: Class, headers: list[tuple[bytes, bytes]]
) -> None:
    answer = ask(middleware_class, websocket_scope(headers=[COOKIE, *headers], **DENIAL))
    assert answer.refused
    assert answer.status == 403


HERE = {
    "no browser": [],
    "same-origin": [(b"sec-fetch-site", b"same-origin"), EVIL],
    "typed": [(b"sec-fetch-site", b"none")],
    "origin": [(b"origin", b"https://app.example.com")],
    "case": [(b"origin", b"https://APP.example.com")],
    "http": [(b"origin", b"http://app.example.com")],
    "blank origin": [(b"origin", b"")],
}


@pytest.mark.parametrize("headers", HERE.values(), ids=HERE.keys())
@pytest.mark.parametrize("credential", AMBIENT.values(), ids=AMBIENT.keys())
def test_the_apps_own_pages_and_other_clients_may_use_ambient_credentials(
    middleware_class: Class, headers: list[tuple[bytes, bytes]], credential: tuple[bytes, bytes]
) -> None:
    scope = http_scope(headers=[credential, *headers], method="POST")
    assert ask(middleware_class, scope).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_methods_pass_from_anywhere(middleware_class: Class, method: str) -> None:
    scope = http_scope(headers=[COOKIE, EVIL], method=method)
    assert ask(middleware_class, scope).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [ALICE],
        [ALICE, COOKIE],
        [(b"authorization", b"DPoP x")],
        [(b"x-api-key", b"k")],
        [(b"x-api-key", b"k"), COOKIE],
        [(b"x-api-key", b"k"), AMBIENT["Basic"]],
        [(b"x-api-key", b"Key  k ")],
    ],
)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_bearer_and_custom_headers_may_come_from_anywhere(
    middleware_class: Class, headers: list[tuple[bytes, bytes]], site: str
) -> None:
    cls: Any = middleware_class
    extractors = [
        cls.extract_authorization_header,
        cls.extract_cookie_header,
        cls.extract_custom_header("x-api-key"),
    ]
    scope = http_scope(headers=[*headers, EVIL, (b"sec-fetch-site", site.encode())], method="POST")
    assert ask(cls, scope, extractors).status == 200


def cookie_as_bearer(request: Any) -> tuple[str, str] | None:
    return ("authorization", f"Bearer {request.cookies['session']}")


def jar_as_custom(request: Any) -> tuple[str, str] | None:
    return ("x-session", request.headers["cookie"])


def basic_as_custom(request: Any) -> tuple[str, str] | None:
    return ("x-basic", request.headers["authorization"])


def service_account(request: Any) -> tuple[str, str] | None:
    return ("authorization", "Bearer service")


def key_as_bearer(request: Any) -> tuple[str, str] | None:
    return ("authorization", f"Bearer {request.headers['x-api-key']}")


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize(
    ("extractor", "headers"),
    [
        (cookie_as_bearer, [COOKIE]),
        (cookie_as_bearer, [COOKIE, (b"accept-language", b""), (b"accept", b" ")]),
        (cookie_as_bearer, [COOKIE, (b"accept-language", b"a"), (b"accept", b"Bearer ")]),
        (jar_as_custom, [COOKIE]),
        (basic_as_custom, [AMBIENT["Basic"]]),
        (service_account, []),
    ],
)
def test_what_an_extractor_makes_of_ambient_credentials_is_ambient(
    middleware_class: Class, extractor: Any, headers: list[tuple[bytes, bytes]]
) -> None:
    scope = http_scope(headers=[*headers, EVIL], method="POST")
    assert ask(middleware_class, scope, [extractor]).status == 403


@sdk_fails(CROSS_SITE)
def test_a_cookie_is_ambient_even_if_the_end_of_it_is_known(middleware_class: Class) -> None:
    jar = (b"cookie", b"session=alice; theme=dark")
    scope = http_scope(headers=[jar, (b"accept", b"theme=dark"), EVIL], method="POST")
    assert ask(middleware_class, scope).status == 403


def test_what_an_extractor_makes_of_a_custom_header_is_not_ambient(
    middleware_class: Class,
) -> None:
    scope = http_scope(headers=[COOKIE, (b"x-api-key", b"k"), EVIL], method="POST")
    assert ask(middleware_class, scope, [key_as_bearer]).credentials == {
        "authorization": "Bearer k"
    }


@sdk_fails(CROSS_SITE)
def test_an_origin_without_a_host_to_compare_with_is_refused(middleware_class: Class) -> None:
    scope = http_scope(method="POST")
    scope["headers"] = [COOKIE, (b"origin", b"null")]
    assert ask(middleware_class, scope).status == 403


# -------------------------------------------------------------------- better: caches and cookies


NO_VARY = "answers to cookies can be served from a cache to someone else"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], b"Cookie"),
        ([b"Origin"], b"Origin, Cookie"),
        ([b"Origin", b"Accept, X"], b"Origin, Accept, X, Cookie"),
        ([b"cookies"], b"cookies, Cookie"),
        ([b"*"], b"*, Cookie"),
    ],
)
@pytest.mark.parametrize("way", ["class", "subclass"])
def test_answers_to_cookies_vary_on_cookie(
    middleware_class: Class,
    request: pytest.FixtureRequest,
    before: list[bytes],
    after: bytes,
    way: str,
) -> None:
    _expect_sdk_failure(request, NO_VARY)

    class Overriding(middleware_class):  # type: ignore[misc, valid-type]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await super().dispatch(request, call_next)
            return response

    probe = Probe((b"X-First", b"1"), *((b"Vary", value) for value in before), (b"x-last", b"1"))
    app = (middleware_class if way == "class" else Overriding)(probe)
    answer = asyncio.run(_request(app, http_scope(headers=[COOKIE, ALICE])))
    assert answer.header(b"vary") == [after]
    others = [(name, value) for name, value in answer.headers if name.lower() != b"vary"]
    assert others == [(b"content-length", b"2"), (b"X-First", b"1"), (b"x-last", b"1")]


_request = request


def _expect_sdk_failure(request: pytest.FixtureRequest, finding: str) -> None:
    if "sdk" in request.node.callspec.id.split("-"):
        request.applymarker(pytest.mark.xfail(reason=finding, raises=AssertionError, strict=True))


@pytest.mark.parametrize("headers", [[ALICE], [(b"x-api-key", b"k")]])
@pytest.mark.parametrize("way", ["class", "subclass"])
def test_answers_to_other_credentials_are_left_alone(
    middleware_class: Class, headers: list[tuple[bytes, bytes]], way: str
) -> None:
    class Overriding(middleware_class):  # type: ignore[misc, valid-type]
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await super().dispatch(request, call_next)
            return response

    cls = middleware_class if way == "class" else Overriding
    answer = ask(cls, http_scope(headers=headers), [lambda _: ("x-a", "1")])
    assert answer.headers == [(b"content-length", b"2")]


def test_the_applications_own_message_is_not_changed(ours: Class) -> None:
    headers = [(b"vary", b"Origin")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body"})

    answer = asyncio.run(request(ours(app), http_scope(headers=[COOKIE])))
    assert answer.header(b"vary") == [b"Origin, Cookie"]
    assert start["headers"] is headers
    assert headers == [(b"vary", b"Origin")]


def test_a_response_without_headers_may_vary(ours: Class) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    answer = asyncio.run(request(ours(app), http_scope(headers=[COOKIE])))
    assert answer.headers == [(b"vary", b"Cookie")]


# ---------------------------------------------------------------------------- our own options


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
def test_optional_credentials_are_still_judged(
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


JAR = (
    b"cookie",
    b"a=1; session=s;x=2X ;\tsession=s; Session=u; sessions=v; session =w; =session; b=3",
)


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize(
    ("names", "forwarded"),
    [
        ({"session"}, "session=s"),
        (["b", "a"], "a=1; b=3"),
        ("session", "session=s"),
        ({"x"}, "x=2X"),
    ],
)
@pytest.mark.parametrize("path", ["default", "extractors"])
def test_only_the_chosen_cookies_are_forwarded(
    middleware_class: Class, names: Any, forwarded: str, path: str
) -> None:
    extract = middleware_class.extract_cookie_header  # type: ignore[attr-defined]
    extractors = None if path == "default" else [extract]
    answer = ask(middleware_class, http_scope(headers=[JAR]), extractors, cookie_names=names)
    assert answer.credentials == {"cookie": forwarded}


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize("jars", [[b"session=s; a=1; session=t"], [b"session=s", b"session"]])
def test_two_values_of_one_forwarded_cookie_are_refused(
    middleware_class: Class, jars: list[bytes]
) -> None:
    scope = http_scope(headers=[ALICE, *((b"cookie", jar) for jar in jars)])
    answer = ask(middleware_class, scope, cookie_names={"session"})
    assert answer.refused
    assert answer.status == 400
    assert answer.body == b'{"detail":"Conflicting cookies"}'
    assert ask(middleware_class, scope, cookie_names={"a"}).status == 200


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize("names", [{"other"}, set(), (), "s"])
def test_other_cookies_do_not_count_as_credentials(middleware_class: Class, names: Any) -> None:
    assert ask(middleware_class, http_scope(headers=[JAR]), cookie_names=names).status == 401
    answer = ask(middleware_class, http_scope(headers=[JAR, ALICE]), cookie_names=names)
    assert answer.credentials == {"authorization": "Bearer alice"}


@sdk_fails(NO_OPTION, raises=TypeError)
def test_only_blanks_around_a_cookie_are_not_part_of_it(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"cookie", b"a=1;\x0bsession=s")])
    assert ask(middleware_class, scope, cookie_names={"session"}).status == 401


@sdk_fails(NO_OPTION, raises=TypeError)
def test_a_cookie_that_is_not_forwarded_may_hold_anything(middleware_class: Class) -> None:
    scope = http_scope(headers=[(b"cookie", b"ad=\xff; session=s; \xe9=1")])
    answer = ask(middleware_class, scope, cookie_names={"session"})
    assert answer.credentials == {"cookie": "session=s"}


@sdk_fails(NO_OPTION, raises=TypeError)
def test_a_trusted_origin_may_ride_on_a_cookie(middleware_class: Class) -> None:
    trusted = ["https://ui.example", "http://localhost:3000"]
    for origin in trusted:
        headers = [COOKIE, (b"origin", origin.encode()), (b"sec-fetch-site", b"cross-site")]
        for scope in (http_scope(headers=headers, method="POST"), websocket_scope("/", headers)):
            assert ask(middleware_class, scope, trusted_origins=trusted).credentials == {
                "cookie": "session=alice"
            }


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize(
    "origin",
    [
        *("http://ui.example", "https://ui.example:444", "https://x.ui.example"),
        *("https://ui.example/", "https://UI.example", "null", "https://ui.exampl", ""),
        "https://ui.example, https://b",
    ],
)
def test_trusted_origins_are_exact(middleware_class: Class, origin: str) -> None:
    headers = [COOKIE, (b"origin", origin.encode()), (b"sec-fetch-site", b"cross-site")]
    scope = http_scope(headers=headers, method="POST")
    for trusted in (["https://ui.example"], "https://ui.example"):
        assert ask(middleware_class, scope, trusted_origins=trusted).status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "",
        "ui.example",
        "https://ui.example/",
        "https://*.example",
        "https://UI.example",
        "https://",
        "https://a b",
        "https://user@ui.example",
        "https://ui.example\n",
    ],
)
def test_what_is_not_an_origin_is_refused_at_construction(ours: Class, origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin") as error:
        ours(Probe(), trusted_origins=[origin])
    assert repr(origin) in str(error.value)


def test_the_other_options_are_by_keyword_only(ours: Class) -> None:
    with pytest.raises(TypeError, match="positional"):
        ours(Probe(), None, None, False)


def test_the_class_keeps_nothing_of_a_request(ours: Class) -> None:
    app = ours(Probe())
    before = dict(vars(app))
    asyncio.run(request(app, http_scope(headers=[ALICE, COOKIE])))
    assert vars(app) == before
    assert "alice" not in repr(vars(app))


def test_a_starlette_app_uses_it_like_any_middleware(middleware_class: Class) -> None:
    async def me(request: Request) -> JSONResponse:
        return JSONResponse(metadata())

    app = Starlette(routes=[Route("/me", me), Route("/health", me)])
    app.add_middleware(middleware_class, excluded_paths={"/health"})
    answer: Answer = asyncio.run(request(app, http_scope("/me", headers=[ALICE])))
    assert answer.body == b'{"authorization":"Bearer alice"}'
    assert asyncio.run(request(app, http_scope("/health", headers=[ALICE]))).body == b"{}"
    assert asyncio.run(request(app, http_scope("/me"))).status == 401
