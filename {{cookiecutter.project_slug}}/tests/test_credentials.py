"""Where the caller's credentials may come from, besides Authorization and Cookie."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from app.main import create_app
from app.settings import load_settings
from local_flyte import ReceivedCall

from .support import authorization_of, needs, serving, token_of

pytestmark = needs("/me")
HEADER = "X-Forwarded-Access-Token"


@pytest.fixture(scope="module")
def proxied(environment: dict[str, str]) -> Iterator[httpx.Client]:
    """Someone before an app that trusts a proxy's header."""
    settings = load_settings().model_copy(update={"token_header": HEADER})
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        yield client


def test_the_token_that_a_proxy_hands_on_is_the_callers(
    proxied: httpx.Client, bob: httpx.Client
) -> None:
    me = proxied.get("/me", headers={HEADER: token_of("bob")})
    assert me.json() == bob.get("/me").json()


@pytest.mark.reads_what_flyte_received
def test_flyte_receives_it_as_a_bearer_token(
    proxied: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    proxied.get("/me", headers={HEADER: token_of("bob")})
    assert {call.headers["authorization"] for call in received()} == {authorization_of("bob")}
    assert not any(HEADER.lower() in call.headers for call in received())


def test_it_outranks_what_authorization_says(proxied: httpx.Client, bob: httpx.Client) -> None:
    """A proxy may put another token there: oauth2-proxy the ID token, if it is told to."""
    headers = {HEADER: token_of("bob"), "Authorization": authorization_of("alice")}
    assert proxied.get("/me", headers=headers).json() == bob.get("/me").json()


@pytest.mark.parametrize("values", [[], [""]])
def test_without_it_what_authorization_says_does_not_count(
    proxied: httpx.Client, values: list[str]
) -> None:
    headers = [("Authorization", authorization_of("alice")), *((HEADER, value) for value in values)]
    assert proxied.get("/me", headers=headers).status_code == 401


@pytest.mark.parametrize("values", [["one", "two"], ["one, two"]])
@pytest.mark.parametrize("other", ["Authorization", "Cookie"])
def test_two_that_differ_are_refused_whatever_else_is_sent(
    proxied: httpx.Client, values: list[str], other: str
) -> None:
    credential = {
        "Authorization": authorization_of("alice"),
        "Cookie": f"flyte_at={token_of('alice')}",
    }[other]
    headers = [(other, credential), *((HEADER, value) for value in values)]
    refused = proxied.get("/me", headers=headers)
    assert refused.status_code == 400
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_two_that_are_the_same_are_one(proxied: httpx.Client, bob: httpx.Client) -> None:
    me = proxied.get("/me", headers=[(HEADER, token_of("bob"))] * 2)
    assert me.json() == bob.get("/me").json()


def test_by_default_no_proxy_is_trusted(anonymous: httpx.Client) -> None:
    assert anonymous.get("/me", headers={HEADER: token_of("bob")}).status_code == 401
