"""Where the caller's credentials may come from, besides Authorization and Cookie."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from app.main import create_app
from app.settings import load_settings
from local_flyte import PEOPLE, LocalFlyte, ReceivedCall

from .support import needs, serving

pytestmark = needs("/me")
HEADER = "X-Forwarded-Access-Token"


@pytest.fixture(scope="module")
def proxied(environment: dict[str, str], local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Someone before an app that trusts a proxy's header."""
    settings = load_settings().model_copy(update={"token_header": HEADER})
    with (
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        yield client


def test_the_token_that_a_proxy_hands_on_is_the_callers(
    proxied: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    me = proxied.get("/me", headers={HEADER: PEOPLE["bob"].token})
    assert me.json()["subject"] == PEOPLE["bob"].subject
    assert {call.headers["authorization"] for call in received()} == {
        f"Bearer {PEOPLE['bob'].token}"
    }


def test_it_outranks_what_the_client_itself_says(proxied: httpx.Client) -> None:
    headers = {HEADER: PEOPLE["bob"].token, "Authorization": f"Bearer {PEOPLE['alice'].token}"}
    assert proxied.get("/me", headers=headers).json()["subject"] == PEOPLE["bob"].subject


@pytest.mark.parametrize("values", [[], [""], ["one", "two"]])
def test_none_or_two_are_no_credential(proxied: httpx.Client, values: list[str]) -> None:
    assert proxied.get("/me", headers=[(HEADER, value) for value in values]).status_code == 401


def test_by_default_no_proxy_is_trusted(anonymous: httpx.Client) -> None:
    assert anonymous.get("/me", headers={HEADER: PEOPLE["bob"].token}).status_code == 401
