"""Credentials that a browser attaches on its own are refused from pages of other origins."""

from typing import Any

import pytest

from .harness import (
    ALICE,
    COOKIE,
    DENIAL,
    EVIL,
    NO_OPTION,
    WEBSOCKET,
    Class,
    Probe,
    ask,
    http_scope,
    sdk_fails,
    websocket_scope,
)

CROSS_SITE = "a cookie is taken from any site"


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
def test_an_unsafe_request_from_another_site_cannot_use_ambient_credentials(
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
def test_a_websocket_from_another_site_cannot_use_a_cookie(
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


@pytest.mark.parametrize("blank", [b"", b" ", b" \t"])
@pytest.mark.parametrize("options", [{}, {"assume_ambient": True}])
def test_a_blank_authorization_header_shows_no_intent(
    ours: Class, blank: bytes, options: dict[str, bool]
) -> None:
    headers = [COOKIE, EVIL, (b"authorization", blank)]
    assert ask(ours, http_scope(headers=headers, method="POST"), **options).status == 403


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
def test_a_credential_made_from_ambient_credentials_is_ambient(
    middleware_class: Class, extractor: Any, headers: list[tuple[bytes, bytes]]
) -> None:
    scope = http_scope(headers=[*headers, EVIL], method="POST")
    assert ask(middleware_class, scope, [extractor]).status == 403


SET_BY_ANY_PAGE = [
    "Accept",
    "Accept-Language",
    "Content-Type",
    "Content-Language",
    "Content-Location",
    "User-Agent",
    "Referer",
    "Origin",
    "Sec-WebSocket-Protocol",
    "Sec-Purpose",
    "Range",
    "Last-Event-ID",
    "Cache-Control",
    "Pragma",
    "If-None-Match",
    "Priority",
    "Ping-From",
]
ADDED_BY_A_PROXY = [
    "X-Forwarded-For",
    "X-Forwarded-User",
    "X-Forwarded-Access-Token",
    "Forwarded",
    "Via",
    "X-Auth-Request-Access-Token",
    "X-Amzn-Oidc-Accesstoken",
    "X-Goog-Iap-Jwt-Assertion",
    "X-Ms-Token-Aad-Access-Token",
    "Cf-Access-Jwt-Assertion",
    "X-Real-IP",
]


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("prefix", [b"", b"Bearer "])
@pytest.mark.parametrize("name", SET_BY_ANY_PAGE + ADDED_BY_A_PROXY)
def test_a_header_without_intent_does_not_make_a_cookie_intended(
    middleware_class: Class, name: str, prefix: bytes
) -> None:
    repeated = (name.lower().encode(), prefix + b"alice")
    fetched = (b"sec-fetch-site", b"cross-site")
    scope = http_scope(headers=[COOKIE, repeated, fetched], method="POST")
    assert ask(middleware_class, scope, [cookie_as_bearer]).status == 403


@sdk_fails(CROSS_SITE)
@pytest.mark.parametrize("name", ADDED_BY_A_PROXY)
def test_a_credential_that_a_proxy_adds_is_ambient(middleware_class: Class, name: str) -> None:
    extract = middleware_class.extract_custom_header(name)  # type: ignore[attr-defined]
    headers = [(name.lower().encode(), b"token"), EVIL]
    assert (
        ask(middleware_class, http_scope(headers=headers, method="POST"), [extract]).status == 403
    )
    assert ask(middleware_class, http_scope(headers=headers), [extract]).status == 200


@pytest.mark.parametrize("name", ["x-token", "accepted", "security", "x-msg", "hosts", "iff"])
def test_a_header_with_a_similar_name_shows_intent(middleware_class: Class, name: str) -> None:
    headers = [COOKIE, (name.encode(), b"alice"), EVIL]
    assert (
        ask(middleware_class, http_scope(headers=headers, method="POST"), [cookie_as_bearer]).status
        == 200
    )


AS_IF_AMBIENT = [ALICE, (b"x-api-key", b"k"), COOKIE]


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.parametrize("credential", AS_IF_AMBIENT)
def test_with_assume_ambient_unsafe_requests_from_other_sites_are_refused(
    middleware_class: Class, headers: list[tuple[bytes, bytes]], credential: tuple[bytes, bytes]
) -> None:
    cls: Any = middleware_class
    extractors = [cls.extract_authorization_header, cls.extract_cookie_header]
    extractors.append(cls.extract_custom_header("x-api-key"))
    for scope in (
        http_scope(headers=[credential, *headers], method="POST"),
        websocket_scope(headers=[credential, *headers], **DENIAL),
    ):
        answer = ask(cls, scope, extractors, assume_ambient=True)
        assert answer.refused
        assert answer.status == 403


@sdk_fails(NO_OPTION, raises=TypeError)
@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", [EVIL]),
        ("POST", []),
        ("POST", [(b"sec-fetch-site", b"same-origin")]),
        ("POST", [(b"origin", b"https://app.example.com")]),
        ("POST", [(b"origin", b"https://ui.example"), (b"sec-fetch-site", b"cross-site")]),
    ],
)
def test_with_assume_ambient_safe_own_and_trusted_requests_pass(
    middleware_class: Class, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    scope = http_scope(headers=[ALICE, *headers], method=method)
    options: dict[str, Any] = {"assume_ambient": True, "trusted_origins": ["https://ui.example"]}
    assert ask(middleware_class, scope, **options).credentials == {"authorization": "Bearer alice"}


@sdk_fails(CROSS_SITE)
def test_a_cookie_is_ambient_even_if_its_last_word_is_in_another_header(
    middleware_class: Class,
) -> None:
    jar = (b"cookie", b"session=alice; theme=dark")
    scope = http_scope(headers=[jar, (b"x-theme", b"theme=dark"), EVIL], method="POST")
    assert ask(middleware_class, scope).status == 403


@pytest.mark.parametrize("key", ["k", "k\tl"])
def test_a_credential_made_from_a_custom_header_is_not_ambient(
    middleware_class: Class, key: str
) -> None:
    scope = http_scope(headers=[COOKIE, (b"x-api-key", key.encode()), EVIL], method="POST")
    assert ask(middleware_class, scope, [key_as_bearer]).credentials == {
        "authorization": f"Bearer {key}"
    }


@sdk_fails(CROSS_SITE)
def test_an_origin_is_refused_if_there_is_no_host_to_compare(middleware_class: Class) -> None:
    scope = http_scope(method="POST")
    scope["headers"] = [COOKIE, (b"origin", b"null")]
    assert ask(middleware_class, scope).status == 403


@sdk_fails(NO_OPTION, raises=TypeError)
def test_a_trusted_origin_may_use_a_cookie(middleware_class: Class) -> None:
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
        "http://ui.example",
        "https://ui.example:444",
        "https://x.ui.example",
        "https://ui.example/",
        "https://UI.example",
        "null",
        "https://ui.exampl",
        "",
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
def test_an_invalid_origin_is_refused_at_construction(ours: Class, origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin") as error:
        ours(Probe(), trusted_origins=[origin])
    assert repr(origin) in str(error.value)
