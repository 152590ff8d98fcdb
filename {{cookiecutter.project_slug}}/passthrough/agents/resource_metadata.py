"""Protected resource metadata (RFC 9728), with the OAuth issuer where agents sign in."""

from collections.abc import Sequence
from typing import Annotated

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.auth import auth_service_pb2 as pb
from flyteidl2.auth.auth_service_connect import AuthMetadataServiceClient
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from ..calls.sdk import initialised
from ..settings import HOST, Settings, rule

# `ISSUER` allows a final slash, because agents require that the issuer equals the issuer in the
# provider's own metadata (RFC 8414 3.3).
LOOPBACK = r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?"
ISSUER = rf"(?!.*/\.well-known/)(https://{HOST}|{LOOPBACK})(/[^/?#\s]+)*/?"
AN_ISSUER = "https://host[/path], exactly as `issuer` in the provider's openid-configuration"
Issuer = Annotated[str, rule(ISSUER, AN_ISSUER)]
"""The type of a setting for the URL of an OAuth issuer.

Raises:
    ValueError: The URL has a query, or an http:// URL has a host that is not loopback.
        `load_settings` converts the ValueError to a StartError.

Example:
    class MySettings(Settings):
        oauth_issuer: Issuer | None = "https://login.example.com/realms/flyte"
"""
OAuthScope = Annotated[str, rule(r"[!#-\[\]-~]+", "scopes such as openid, separated by commas")]
"""The type of a setting for an OAuth scope (RFC 6749 3.3).

Raises:
    ValueError: The scope contains a space, a quotation mark or a backslash. `load_settings`
        converts the ValueError to a StartError.

Example:
    class MySettings(Settings):
        oauth_scopes: tuple[OAuthScope, ...] = ("openid", "offline_access")
"""
PATH = "/mcp"
METADATA = f"/.well-known/oauth-protected-resource{PATH}"  # RFC 9728 3.1


class ResourceMetadata:
    """Serves the metadata document, which is the same for all callers."""

    def __init__(
        self, settings: Settings, issuer: Issuer | None, scopes: Sequence[OAuthScope] = ()
    ) -> None:
        self._settings, self._issuer, self._scopes = settings, issuer, scopes
        self._document: dict[str, list[str]] = {}

    def address(self, connection: HTTPConnection, path: str) -> str:
        """Return the public URL of a path. OAuth requires https, except for a loopback host."""
        if public_url := self._settings.public_url:
            return public_url + path
        url = connection.base_url
        is_loopback = url.hostname in {"localhost", "127.0.0.1", "::1"}
        return str(url.replace(scheme=url.scheme if is_loopback else "https")).rstrip("/") + path

    def challenge(self, connection: HTTPConnection) -> str:
        """Return WWW-Authenticate with the URL of the metadata document (RFC 9728 5.1)."""
        return f'Bearer resource_metadata="{self.address(connection, METADATA)}"'

    async def respond(self, request: Request) -> JSONResponse:
        """Respond to a request for the metadata document (RFC 9728 2)."""
        self._document = self._document or await self._fetch_document()
        if not any(self._document["authorization_servers"]):
            raise HTTPException(404, "Flyte does not say where to sign in: see OAUTH_ISSUER")
        return JSONResponse({"resource": self.address(request, PATH), **self._document})

    async def _fetch_document(self) -> dict[str, list[str]]:
        """Fetch the issuer and the scopes from Flyte, without credentials."""
        service = AuthMetadataServiceClient(**initialised().client.session_config.connect_kwargs())
        issuer, scopes = self._issuer or "", [*self._scopes]
        try:
            metadata = await service.get_o_auth2_metadata(pb.GetOAuth2MetadataRequest())
            issuer = issuer or metadata.issuer
            config = await service.get_public_client_config(pb.GetPublicClientConfigRequest())
            scopes = scopes or [*config.scopes]
        except ConnectError as error:
            # The open-source Flyte responds with UNIMPLEMENTED if it has no OAuth issuer.
            if error.code is not Code.UNIMPLEMENTED:
                raise
        # Omit empty lists, because RFC 9728 3.2 forbids them. If the document names no scopes, an
        # agent requests the scopes in the metadata of the provider.
        document = {"authorization_servers": [issuer], "scopes_supported": scopes}
        return {name: values for name, values in document.items() if values}
