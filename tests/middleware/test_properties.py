"""Properties of all requests, checked with generated ones against a simple restatement."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from .harness import DENIAL, Class, Header, ask, get, websocket

REFUSALS = {
    400: ["Conflicting Authorization headers", "Conflicting cookies", "Malformed credentials"],
    401: ["Authentication credentials required"],
    403: ["Cross-site request refused"],
    431: ["Credentials too large"],
}
PREFLIGHT = [(b"origin", b"https://ui.example"), (b"access-control-request-method", b"POST")]
FIXED = {b"content-type", b"content-length", b"www-authenticate"}
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


def _check_forwarded(
    credentials: dict[str, str], sent: list[Header], names: set[str] | None
) -> None:
    """Check that every value came in a header with that name, byte for byte but for blanks."""
    sent = [(name, value.strip()) for name, value in sent if value.strip()]
    jars = b"; ".join(value for name, value in sent if name == b"cookie")
    for key, text in credentials.items():
        value = text.encode().strip()
        assert value
        assert set(value) <= SENDABLE
        if key == "cookie" and names is not None:
            cookies = [cookie.strip(b" \t") for cookie in jars.split(b";")]
            for forwarded in value.split(b"; "):
                assert forwarded in cookies
                assert forwarded.split(b"=")[0].decode() in names
        else:
            assert (key.encode(), value) in [*sent, (b"cookie", jars)]


@given(headers, methods, paths, excluded, st.sampled_from([None, {"session"}]), st.booleans())
@example([(b"authorization", b"Bearer t")], "GET", "/", set(), None, True)
@example([(b"cookie", b"session=s")], "POST", "/", set(), {"session"}, False)
@example([(b"cookie", b"a"), (b"authorization", b""), PREFLIGHT[0]], "PUT", "/", set(), None, False)
@example([*PREFLIGHT, (b"cookie", b"a=1")], "OPTIONS", "/", set(), {"session"}, False)
# The same examples on every run, and no example database in the working tree.
@settings(derandomize=True, database=None, deadline=None, max_examples=100)
def test_without_credentials_only_excluded_paths_are_served(  # noqa: PLR0917
    cls: Class,
    sent: list[Header],
    method: str,
    path: str,
    exempt: set[str],
    names: set[str] | None,
    is_websocket: bool,
) -> None:
    scope = get(*sent, path=path, method=method)
    if is_websocket:
        scope = websocket(*sent, path=path, **DENIAL)
    answer = ask(cls, scope, None, exempt, cookie_names=names)
    present = {name for name, value in sent if value.strip()}
    preflight = {b"origin", b"access-control-request-method"} <= present
    preflight = preflight and method == "OPTIONS" and not is_websocket
    if path in exempt:
        assert answer.credentials == {}
    elif not answer.seen:
        assert any(answer.refused(detail) for detail in REFUSALS[answer.status])
        assert {name for name, _ in answer.headers} <= FIXED
        assert not (preflight and answer.status == 401)
        assert answer.status == 401 or present & {b"authorization", b"cookie"}
    else:
        assert answer.credentials or preflight
        _check_forwarded(answer.credentials, sent, names)
