"""Tells agents where to sign in (RFC 9728): at Flyte's own issuer, or at the app's."""

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.auth import auth_service_pb2 as pb
from flyteidl2.auth.auth_service_connect import AuthMetadataServiceClient
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from ..calls.sdk import initialised
from ..settings import Page, Settings

Issuer = Page
PATH = "/mcp"
METADATA = f"/.well-known/oauth-protected-resource{PATH}"  # RFC 9728 3.1


class ResourceMetadata:
    """The document that says where to sign in. It is the same for everybody."""

    def __init__(self, settings: Settings, issuer: Issuer | None) -> None:
        self._settings, self._issuer = settings, issuer
        self._document: dict[str, list[str]] = {}

    def address(self, connection: HTTPConnection, path: str) -> str:
        """Return an address as the client knows it. OAuth needs https, except on this machine."""
        if known := self._settings.public_url:
            return known + path
        url = connection.base_url
        is_here = url.hostname in {"localhost", "127.0.0.1", "::1"}
        return str(url.replace(scheme=url.scheme if is_here else "https")).rstrip("/") + path

    def challenge(self, connection: HTTPConnection) -> str:
        """Return the value of WWW-Authenticate that says where the document is (RFC 9728 5.1)."""
        return f'Bearer resource_metadata="{self.address(connection, METADATA)}"'

    async def respond(self, request: Request) -> JSONResponse:
        """Answer a request for the document (RFC 9728 2)."""
        self._document = self._document or await self._ask_flyte()
        if not any(self._document["authorization_servers"]):
            raise HTTPException(404, "Flyte does not say where to sign in: see OAUTH_ISSUER")
        return JSONResponse({"resource": self.address(request, PATH), **self._document})

    async def _ask_flyte(self) -> dict[str, list[str]]:
        """Ask Flyte, which answers this without credentials."""
        service = AuthMetadataServiceClient(**initialised().client.session_config.connect_kwargs())
        issuer, scopes = self._issuer or "", list[str]()
        try:
            metadata = await service.get_o_auth2_metadata(pb.GetOAuth2MetadataRequest())
            issuer = issuer or metadata.issuer
            config = await service.get_public_client_config(pb.GetPublicClientConfigRequest())
            scopes = [*config.scopes]
        except ConnectError as error:
            # So says the open-source Flyte, if nobody has told it where to sign in.
            if error.code is not Code.UNIMPLEMENTED:
                raise
        return {"authorization_servers": [issuer], "scopes_supported": scopes}
