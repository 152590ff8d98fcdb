"""Property tests, which compare generated requests with a simple model."""

from hypothesis import example, given
from hypothesis import strategies as st

from .harness import DENIAL, PREFLIGHT, REFUSALS, Class, Header, ask, get, websocket

SENDABLE = {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}

tokens = st.sampled_from([b"Bearer t", b"Basic dTpw", b"a=1", b"session=s; a=1", b"", b" ", b"\t"])
values = tokens | st.binary(max_size=12) | st.lists(tokens, max_size=3).map(b"; ".join)
sources = [(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site"), *PREFLIGHT]
headers = st.lists(
    st.tuples(st.sampled_from([b"authorization", b"cookie"]), values)
    | st.tuples(st.binary(max_size=6).map(bytes.lower), values)
    | st.sampled_from([*sources, (b"origin", b"https://app.example.com"), (b"origin", b"null")]),
    max_size=6,
)
methods = st.sampled_from(["GET", "OPTIONS", "POST", "get", ""])
paths = st.sampled_from(["/", "/health", "/health/", "", "//health", "/heal"]) | st.text(max_size=9)


def forwarded(pairs: list[Header], names: set[str]) -> dict[str, str]:
    """Return the credentials that Flyte receives for these headers, with stripped values."""
    values = [value for name, value in pairs if name == b"authorization" and value.strip()]
    jar = b"; ".join(value.strip() for name, value in pairs if name == b"cookie" and value.strip())
    if names:
        cookies = dict.fromkeys(cookie.strip(b" \t") for cookie in jar.split(b";"))
        jar = b"; ".join(c for c in cookies if c.split(b"=")[0].decode("latin-1") in names)
    credentials = {
        "authorization": b"".join(values[:1]).decode().strip(),
        "cookie": jar.decode().strip(),
    }
    return {key: value for key, value in credentials.items() if value}


@given(headers, methods, paths, st.sets(paths, max_size=3), st.sampled_from([set(), {"session"}]))
@example([(b"authorization", b"Bearer t")], "POST", "/", set(), set())
@example([(b"cookie", b"session=s")], "POST", "/", set(), {"session"})
@example([*PREFLIGHT, (b"cookie", b"a=1")], "OPTIONS", "/", set(), {"session"})
@example([*PREFLIGHT], "options", "/", set(), set())
def test_request_without_credentials_is_refused(  # noqa: PLR0917
    cls: Class, pairs: list[Header], method: str, path: str, exempt: set[str], names: set[str]
) -> None:
    """Excluded paths and CORS preflights are the exceptions."""
    for scope in (get(*pairs, path=path, method=method), websocket(*pairs, path=path, **DENIAL)):
        result = ask(cls, scope, None, exempt, cookie_names=names or None)
        prepairs = {name for name, value in pairs if value.strip()}
        is_preflight = scope.get("method") == "OPTIONS" and dict(PREFLIGHT).keys() <= prepairs
        if path in exempt:
            assert result.credentials == {}
        elif result.credentials is not None:
            assert result.credentials or is_preflight
            assert set("".join(result.credentials.values()).encode()) <= SENDABLE
            assert {k: v.strip() for k, v in result.credentials.items()} == forwarded(pairs, names)
        else:
            assert result.status in REFUSALS.values()
            assert not (is_preflight and result.status == 401)
            assert result.status == 401 or prepairs & {b"authorization", b"cookie"}
