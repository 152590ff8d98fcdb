"""Tests of the resource metadata (RFC 9728), which names the issuer where agents sign in."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp.client.auth.utils import extract_resource_metadata_from_www_auth
from mcp.shared.auth import ProtectedResourceMetadata

from local_flyte import LocalFlyte, Mode
from local_flyte.testing import client_of, serving
from passthrough import Settings, load_settings
from passthrough.agents import Issuer, OAuthScope
from passthrough.agents.resource_metadata import METADATA
from passthrough.calls.sdk import StartError

from .calling import ACCEPT, answer, app_with_agents, calling


@pytest.fixture(scope="module")
def url(local_flyte: LocalFlyte) -> Iterator[str]:
    with serving(app_with_agents()) as url:
        yield url


@pytest.mark.parametrize("person", [None, "expired"])
def test_unauthenticated_agent_gets_resource_metadata(url: str, person: str | None) -> None:
    with client_of(url, person) as client:
        for address in (url, "https://app.example"):
            refused = client.post("/mcp", headers={"Host": address.partition("://")[2]})
            assert refused.status_code == 401
            place = f'Bearer resource_metadata="{address}{METADATA}"'
            assert refused.headers["WWW-Authenticate"] == place
        assert client.get("/me").headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("public_url", [None, "https://api.example:8443/flyte"])
def test_resource_metadata_has_prefix_and_configured_issuer(
    local_flyte: LocalFlyte, public_url: str | None
) -> None:
    issuer = "https://sign-in.example"
    app = app_with_agents(public_url=public_url, issuer=issuer, sign_out_url="/out")
    with serving(app, root_path="/pre") as url:
        known = public_url or f"{url}/pre"
        refused = httpx2.post(f"{url}/mcp", headers=ACCEPT, trust_env=False)
        assert extract_resource_metadata_from_www_auth(refused) == f"{known}{METADATA}"
        with client_of(url, "alice") as alice:
            told = ProtectedResourceMetadata.model_validate_json(alice.get(METADATA).text)
            me = answer(calling(alice)("me"))
            assert (me["subject"], me["sign_out"]) == ("alice-subject", "/out")
    assert str(told.resource) == f"{known}/mcp"
    assert [*map(str, told.authorization_servers)] == [issuer]


def test_resource_metadata_is_public_and_cached(url: str, local_flyte: LocalFlyte) -> None:
    with client_of(url, None) as client:
        client.get(METADATA)
        local_flyte.clear_calls()
        assert client.get(METADATA, headers={"Host": "app.example"}).json() == {
            "resource": "https://app.example/mcp",
            "authorization_servers": [local_flyte.url],
            "scopes_supported": ["all"],
        }
    assert not local_flyte.calls


def test_scopes_supported_is_omitted_if_empty(local_flyte: LocalFlyte) -> None:
    """RFC 9728 3.2. Open-source Flyte names neither an issuer nor scopes."""
    issuer = "https://sign-in.example/"
    with LocalFlyte(mode=Mode.DEVBOX) as flyte:
        known: dict[str, Any] = {"flyte_endpoint": flyte.url, "flyte_plaintext": True}
        known |= {"allow_anonymous": True, "issuer": issuer}
        for scopes, more in (
            ((), {}),
            (("openid", "all"), {"scopes_supported": ["openid", "all"]}),
        ):
            with serving(app_with_agents(scopes=scopes, **known)) as url:
                document = httpx2.get(f"{url}{METADATA}", trust_env=False).json()
            assert document == {"resource": f"{url}/mcp", "authorization_servers": [issuer]} | more
        with serving(app_with_agents(**known | {"issuer": None})) as url:
            refused = httpx2.get(f"{url}{METADATA}", trust_env=False)
    assert (refused.status_code, "OAUTH_ISSUER" in refused.text) == (404, True)


class AgentSettings(Settings):
    oauth_issuer: Issuer | None = None
    oauth_scopes: tuple[OAuthScope, ...] = ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OAUTH_ISSUER", "/idp"),
        ("OAUTH_ISSUER", "http://idp.example.com"),
        ("OAUTH_ISSUER", "https://idp.example.com//"),
        ("OAUTH_ISSUER", "https://idp.example.com//realm"),
        ("OAUTH_ISSUER", "https://idp.example.com?realm=a"),
        ("OAUTH_ISSUER", "https://idp.example.com/.well-known/openid-configuration"),
        ("OAUTH_SCOPES", "openid email"),
    ],
)
def test_wrong_issuer_or_scope_is_refused_at_start(name: str, value: str) -> None:
    with pytest.raises(StartError, match=f"{name}.*(exactly as|separated by commas)") as refused:
        load_settings(AgentSettings, {name: value})
    assert value not in str(refused.value)


@pytest.mark.parametrize("path", ["", "/", "/realms/flyte", "/oauth2/default/"])
def test_issuer_may_have_a_path_and_trailing_slash(path: str) -> None:
    for origin in ("https://idp.example.com:8443", "http://127.0.0.1:9400"):
        settings = load_settings(AgentSettings, {"OAUTH_ISSUER": origin + path})
        assert settings.oauth_issuer == origin + path
