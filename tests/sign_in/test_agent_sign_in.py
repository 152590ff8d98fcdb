"""Agents that sign in through a browser, by the authorization specification of MCP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from local_flyte.apps import free_port
from local_flyte.testing import wait_until

from ..baking import BIN, run
from .conftest import Chain
from .provider import Provider

CALLBACK = "http://127.0.0.1:3999/callback"
REGISTERED: dict[str, Any] = {"client_id": "agents", "redirect_uris": [CALLBACK]}
FASTMCP = "fastmcp==4.2.3"
USER_INFO = "/flyteidl2.auth.IdentityService/UserInfo"


@pytest.fixture
def provider(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """The provider, whose attributes may be changed; it knows the client ``agents``."""
    for name in ("lifetime", "audiences_by_resource", "has_oauth_metadata"):
        monkeypatch.setattr(chain.provider, name, getattr(chain.provider, name))
    chain.provider.clients["agents"] = REGISTERED
    chain.provider.authorizations.clear()
    return chain.provider


class Agent:
    """The official client, and somebody who signs in when it opens a browser."""

    def __init__(self, chain: Chain, sub: str, *, registered: bool = False) -> None:
        self.chain, self.sub = chain, sub
        self.tokens: OAuthToken | None = None
        self.client_info: OAuthClientInformationFull | None = None
        if registered:
            client = REGISTERED | {"token_endpoint_auth_method": "none"}
            self.client_info = OAuthClientInformationFull(**client)
        self.responses: list[tuple[str, int]] = []
        """Paths that it has called, with the status."""
        self._callback: dict[str, list[str]] = {}

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client_info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client_info = client_info

    async def open_browser(self, url: str) -> None:
        with self.chain.client() as browser:
            browser.get(url).raise_for_status()
            signed_in = browser.post(url, data={"sub": self.sub})
        self._callback = parse_qs(urlsplit(signed_in.headers["Location"]).query)

    async def wait_for_callback(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**{name: self._callback[name][0] for name in self._callback})

    async def _note(self, response: httpx2.Response) -> None:
        self.responses.append((response.request.url.path, response.status_code))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Agent"]:
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(CALLBACK)], token_endpoint_auth_method="none"
        )
        url = f"{self.chain.url}/mcp"
        self.auth = auth = OAuthClientProvider(
            url, metadata, self, self.open_browser, self.wait_for_callback
        )
        options: dict[str, Any] = {"verify": self.chain.trust, "timeout": 60, "trust_env": False}
        async with (
            httpx2.AsyncClient(
                auth=auth, event_hooks={"response": [self._note]}, **options
            ) as http,
            Client(streamable_http_client(url, http_client=http)) as self.mcp,
        ):
            yield self

    async def call(self, tool: str, **arguments: Any) -> Any:
        result = await self.mcp.call_tool(tool, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def wait_until_expired(self) -> None:
        """Wait until oauth2-proxy refuses its token, and it knows that the token has expired."""
        assert self.tokens
        headers = {"Authorization": f"Bearer {self.tokens.access_token}"}
        with self.chain.client() as client:
            wait_until(lambda: client.get("/me", headers=headers).status_code == 401)
        wait_until(lambda: not self.auth.context.is_token_valid())

    def requests(self, path: str) -> int:
        return sum(path == called for called, _ in self.responses)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("has_oauth_metadata", [False, True])
async def test_official_client_signs_in_and_acts_as_user(
    chain: Chain, provider: Provider, registered: bool, has_oauth_metadata: bool
) -> None:
    provider.has_oauth_metadata = has_oauth_metadata
    async with Agent(chain, "frank", registered=registered).connected() as frank:
        assert (await frank.call("me"))["subject"] == "frank"
        body = {"inputs": {"name": "Ada"}}
        made = await frank.call("run_task", name="page-tests.greet", body=body, wait=60)
    assert (made["executed_by"]["subject"], made["phase"]) == ("frank", "succeeded"), made
    assert frank.responses[0] == ("/mcp", 401)
    assert frank.requests("/.well-known/oauth-protected-resource/mcp") == 1
    assert frank.requests("/.well-known/openid-configuration") == (not has_oauth_metadata)
    assert frank.requests("/register") == (not registered)
    (asked,) = provider.authorizations
    assert asked["resource"] == f"{chain.url}/mcp"
    assert asked["code_challenge_method"] == "S256"
    assert asked["scope"] == "openid profile email offline_access"


async def test_agent_refreshes_its_token_before_expiry(chain: Chain, provider: Provider) -> None:
    provider.lifetime = 3
    async with Agent(chain, "grace").connected() as grace:
        grace.wait_until_expired()
        assert (await grace.call("me"))["subject"] == "grace"
    assert (len(provider.authorizations), grace.requests("/token")) == (1, 2)


async def test_token_audience_must_be_accepted_by_both_proxies(
    chain: Chain, provider: Provider
) -> None:
    provider.audiences_by_resource = ()
    judy, resource = Agent(chain, "judy"), f"{chain.url}/mcp"
    with pytest.raises(ExceptionGroup):
        async with judy.connected():
            raise AssertionError
    assert judy.responses[-1] == ("/mcp", 401)
    assert judy.tokens
    bearer = {"Authorization": f"Bearer {judy.tokens.access_token}"}
    with chain.behind(f"--oidc-extra-audience={resource}") as changed, changed.client() as client:
        assert client.get("/me", headers=bearer).status_code == 403  # from Envoy
    with (
        chain.with_envoy(free_port(), {"[flyte]": f"[flyte, {resource}]"}) as changed,
        changed.client() as client,
    ):
        assert client.post(changed.envoy + USER_INFO, json={}, headers=bearer).is_success


def test_fastmcp_signs_in_and_acts_as_user(chain: Chain, provider: Provider) -> None:
    code = """import asyncio, sys, fastmcp
async def main():
    async with fastmcp.Client(sys.argv[1], auth="oauth", verify=sys.argv[2]) as client:
        print("subject:", (await client.call_tool("me", {})).data["subject"])
asyncio.run(main())"""
    trusted = chain.folder / "ca.pem"
    # A program that BROWSER names opens the address, and leads back to the client.
    browser = f"curl --silent --location --retry 20 --retry-connrefused --cacert {trusted}"
    command: list[str | Any] = [BIN / "uv", "run", "--quiet", "--isolated", "--no-project"]
    command += ["--with", FASTMCP, "--python", BIN / "python", "python", "-c", code]
    printed = run(
        [*command, f"{chain.url}/mcp", trusted],
        chain.folder,
        BROWSER=f"{browser} --data sub=kim %s &",
        SSL_CERT_FILE=str(trusted),
    )
    assert "subject: kim" in printed
