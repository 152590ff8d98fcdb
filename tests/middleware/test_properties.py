"""Properties of all requests, checked with generated ones against a simple restatement."""

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from .harness import Answer, Class, Probe, ask, http_scope, request, websocket_scope

Header = tuple[bytes, bytes]

# The same examples on every run, and no example database in the working tree.
settings.register_profile("middleware", derandomize=True, database=None, deadline=None)
thorough = settings(settings.get_profile("middleware"), max_examples=600)

REFUSALS = {
    400: {
        b'{"detail":"Conflicting Authorization headers"}',
        b'{"detail":"Conflicting cookies"}',
        b'{"detail":"Malformed credentials"}',
    },
    401: {b'{"detail":"Authentication credentials required"}'},
    403: {b'{"detail":"Cross-site request refused"}'},
    431: {b'{"detail":"Credentials too large"}'},
}
PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]
SENDABLE = {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}

tokens = st.sampled_from([b"Bearer t", b"Basic dTpw", b"a=1", b"session=s; a=1", b"", b" ", b"\t"])
values = st.one_of(
    tokens,
    st.binary(max_size=12),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(tokens, max_size=3).map(b"; ".join),
)
sites = st.sampled_from([b"same-origin", b"none", b"cross-site", b"same-site", b"", b"x"])
origins = st.sampled_from([b"https://app.example.com", b"https://evil.example", b"null", b""])
methods = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "DELETE", "PATCH", "get", "TRACE", ""])
headers = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"authorization", b"cookie"]), values),
        st.tuples(st.just(b"sec-fetch-site"), sites),
        st.tuples(st.just(b"origin"), origins),
        st.tuples(st.just(b"access-control-request-method"), st.sampled_from([b"POST", b""])),
        st.tuples(st.binary(max_size=6).map(bytes.lower), values),
    ),
    max_size=6,
)
paths = st.one_of(
    st.sampled_from(["/", "/health", "/health/", "/healthz", "", "//health", "/Health", "/heal"]),
    st.text(max_size=12),
    st.text(max_size=4).map(lambda text: "/health" + text),
)
excluded = st.sets(paths, max_size=3)


def _check_refusal(answer: Answer) -> None:
    """Check that a refusal is one of the fixed answers, without parts of the request."""
    assert answer.refused
    assert answer.body in REFUSALS[answer.status]
    assert {name for name, _ in answer.headers} <= {
        b"content-type",
        b"content-length",
        b"www-authenticate",
    }


def _check_forwarded(
    credentials: dict[str, str], sent: list[Header], names: set[str] | None
) -> None:
    """Check that every forwarded value came in a header with that name, byte for byte."""
    assert credentials.keys() <= {"authorization", "cookie"}
    if "authorization" in credentials:
        value = credentials["authorization"].encode()
        assert value in [raw for name, raw in sent if name == b"authorization"]
    if "cookie" in credentials:
        jars = [raw for name, raw in sent if name == b"cookie" and raw.strip()]
        whole = b"; ".join(jars)
        if names is None:
            assert credentials["cookie"].encode() == whole
        else:
            came = [cookie.strip(b" \t") for cookie in whole.split(b";")]
            for forwarded in credentials["cookie"].encode().split(b"; "):
                assert forwarded in came
                assert forwarded.split(b"=")[0].decode() in names
    for text in credentials.values():
        assert text.strip()
        assert set(text.encode()) <= SENDABLE


@given(headers, methods, paths, excluded, st.sampled_from([None, {"session"}]))
@example([(b"authorization", b"Bearer t")], "GET", "/", set(), None)
@example([(b"cookie", b"session=s")], "POST", "/", set(), {"session"})
@example([(b"cookie", b"session=s; session=t")], "GET", "/", set(), {"session"})
@example(
    [(b"cookie", b"a=1"), (b"authorization", b""), (b"origin", b"x")], "POST", "/", set(), None
)
@example([PREFLIGHT[0], PREFLIGHT[1], (b"authorization", b"Bearer t")], "OPTIONS", "/", set(), None)
@example([PREFLIGHT[0], PREFLIGHT[1], (b"cookie", b"a=1")], "OPTIONS", "/", set(), {"session"})
@thorough
def test_without_credentials_only_excluded_paths_are_served(  # noqa: PLR0917
    ours: Class,
    sent: list[Header],
    method: str,
    path: str,
    exempt: set[str],
    names: set[str] | None,
) -> None:
    scope = http_scope(path, sent, method)
    answer = ask(ours, scope, None, exempt, cookie_names=names)
    present = {name for name, value in sent if value.strip()}
    preflight = method == "OPTIONS" and {b"origin", b"access-control-request-method"} <= present
    if path in exempt:
        assert answer.credentials == {}
    elif answer.refused:
        _check_refusal(answer)
        assert not (preflight and answer.status == 401)
        assert answer.status == 401 or present & {b"authorization", b"cookie"}
    else:
        assert answer.credentials or preflight
        _check_forwarded(answer.credentials, sent, names)


@given(headers, paths, excluded)
@thorough
def test_without_credentials_only_excluded_websockets_are_accepted(
    ours: Class, sent: list[Header], path: str, exempt: set[str]
) -> None:
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    answer = ask(ours, websocket_scope(path, sent, extensions=extensions), None, exempt)
    if path in exempt:
        assert answer.credentials == {}
    elif answer.refused:
        _check_refusal(answer)
    else:
        assert answer.credentials
        _check_forwarded(answer.credentials, sent, None)


@given(headers, methods)
@thorough
def test_a_well_formed_request_from_the_apps_own_page_is_served(
    ours: Class, noise: list[Header], method: str
) -> None:
    """The converse: valid credentials are not refused because of other headers."""
    judged = (b"authorization", b"cookie", b"origin", b"sec-fetch-site")
    rest = [(name, value) for name, value in noise if name not in judged]
    scope = http_scope("/", [(b"authorization", b"Bearer t"), *rest], method)
    assert ask(ours, scope).credentials == {"authorization": "Bearer t"}


@given(st.text(max_size=20), st.sets(st.text(max_size=20), max_size=3))
@thorough
def test_exactly_the_excluded_paths_are_excluded(ours: Class, path: str, exempt: set[str]) -> None:
    assert ask(ours, http_scope(path), None, exempt).refused == (path not in exempt)
    for other in exempt:
        assert ask(ours, http_scope(other), None, exempt).credentials == {}


@given(st.text(max_size=8), st.text(max_size=8))
@thorough
def test_a_string_excludes_only_itself(ours: Class, given_path: str, path: str) -> None:
    assert ask(ours, http_scope(path), None, given_path).refused == (path != given_path)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=6), st.binary(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(), inner)
    ),
    max_leaves=4,
)
keys = st.sampled_from(["x-a", "X-A", "Authorization", "cookie", "host", "content-x", "x a", "ü"])
results = st.one_of(anything, st.tuples(keys, st.text(max_size=8)), st.tuples(keys, tokens))


@given(st.lists(results, max_size=4))
@thorough
def test_no_extractor_result_gets_anything_unsendable_into_the_metadata(
    ours: Class, found: list[Any]
) -> None:
    extractors = [lambda _, result=result: result for result in found]
    answer = ask(ours, http_scope(), extractors)
    if answer.refused:
        _check_refusal(answer)
        return
    assert answer.credentials
    pairs = [pair for pair in found if isinstance(pair, tuple | list) and len(pair) == 2]
    given_keys = {pair[0].lower() for pair in pairs if isinstance(pair[0], str)}
    for key, value in answer.credentials.items():
        assert key in given_keys
        assert key in {"x-a", "authorization", "cookie"} or key.isascii()
        assert key not in {"host", "content-x", "x a"}
        assert value.strip()
        assert set(value.encode()) <= SENDABLE


@given(st.lists(st.tuples(st.sampled_from([b"Vary", b"vary", b"x"]), values), max_size=4))
@thorough
def test_any_response_headers_end_up_with_a_vary_that_covers_cookies(
    ours: Class, before: list[Header]
) -> None:
    app = ours(Probe(*before))
    answer = asyncio.run(request(app, http_scope(headers=[(b"cookie", b"a=1")])))
    [vary] = answer.header(b"vary")
    names = [name.strip().lower() for name in vary.split(b",")]
    assert b"cookie" in names or b"*" in names
    for name, value in before:
        if name.lower() == b"vary":
            assert {part.strip().lower() for part in value.split(b",")} <= set(names) | {b""}
        else:
            assert (name, value) in answer.headers
