"""Where agents learn where to sign in."""

from collections.abc import Iterator

import httpx2
import pytest
from mcp.client.auth.utils import extract_resource_metadata_from_www_auth
from mcp.shared.auth import ProtectedResourceMetadata

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving
from passthrough.agents.resource_metadata import METADATA

from .calling import ACCEPT, answer, app_with_agents, calling


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(app_with_agents()) as url:
        yield url


@pytest.mark.parametrize("person", [None, "expired"])
def test_without_valid_credentials_agents_learn_where_to_sign_in(
    url: str, person: str | None
) -> None:
    with client_of(url, person) as client:
        for address in (url, "https://app.example"):
            refused = client.post("/mcp", headers={"Host": address.partition("://")[2]})
            assert refused.status_code == 401
            place = f'Bearer resource_metadata="{address}{METADATA}"'
            assert refused.headers["WWW-Authenticate"] == place
        assert client.get("/me").headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("public_url", [None, "https://api.example:8443/flyte"])
def test_agents_are_served_under_a_prefix_and_sign_in_where_the_settings_say(
    local_flyte: LocalFlyte, public_url: str | None
) -> None:
    issuer = "https://sign-in.example"
    app = app_with_agents(public_url=public_url, issuer=issuer)
    with serving(app, root_path="/pre") as url:
        known = public_url or f"{url}/pre"
        refused = httpx2.post(f"{url}/mcp", headers=ACCEPT, trust_env=False)
        assert extract_resource_metadata_from_www_auth(refused) == f"{known}{METADATA}"
        with client_of(url, "alice") as alice:
            told = ProtectedResourceMetadata.model_validate_json(alice.get(METADATA).text)
            assert answer(calling(alice)("me"))["subject"] == "alice-subject"
    assert str(told.resource) == f"{known}/mcp"
    assert [*map(str, told.authorization_servers)] == [issuer]


def test_everybody_may_read_where_to_sign_in_and_flyte_is_asked_once(
    url: str, local_flyte: LocalFlyte
) -> None:
    with client_of(url, None) as client:
        client.get(METADATA)
        local_flyte.clear_calls()
        assert client.get(METADATA, headers={"Host": "app.example"}).json() == {
            "resource": "https://app.example/mcp",
            "authorization_servers": [local_flyte.url],
            "scopes_supported": ["all"],
        }
    assert not local_flyte.calls
