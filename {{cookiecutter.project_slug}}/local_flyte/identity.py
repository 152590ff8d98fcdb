"""The caller's identity, and tokens for applications."""

from flyteidl2.auth import auth_service_connect, auth_service_pb2, identity_connect, identity_pb2
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from .access import Context, known_caller
from .people import Directory


class IdentityService(identity_connect.IdentityService):
    """Returns the owner of a call's credentials."""

    async def user_info(
        self, request: identity_pb2.UserInfoRequest, ctx: Context
    ) -> identity_pb2.UserInfoResponse:
        person = known_caller()
        return identity_pb2.UserInfoResponse(
            subject=person.subject,
            name=f"{person.given_name} {person.family_name}".strip(),
            given_name=person.given_name,
            family_name=person.family_name,
            email=person.email,
        )


class AuthMetadataService(auth_service_connect.AuthMetadataService):
    """Returns where and how to exchange API keys for tokens."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def get_o_auth2_metadata(
        self, request: auth_service_pb2.GetOAuth2MetadataRequest, ctx: Context
    ) -> auth_service_pb2.GetOAuth2MetadataResponse:
        return auth_service_pb2.GetOAuth2MetadataResponse(
            issuer=self._url, token_endpoint=f"{self._url}/oauth2/token"
        )

    async def get_public_client_config(
        self, request: auth_service_pb2.GetPublicClientConfigRequest, ctx: Context
    ) -> auth_service_pb2.GetPublicClientConfigResponse:
        return auth_service_pb2.GetPublicClientConfigResponse(scopes=["all"])


class Tokens:
    """An ASGI application that issues tokens for API keys (RFC 6749 4.4)."""

    def __init__(self, people: Directory) -> None:
        self._people = people

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Return a token for the owner of the API key in the request."""
        request = Request(scope, receive)
        someone = self._people.of_key(request.headers.get("authorization", ""))
        if someone is None or b"grant_type=client_credentials" not in await request.body():
            response = JSONResponse({"error": "invalid_client"}, 401)
        else:
            response = JSONResponse({"access_token": someone.token, "expires_in": 3600})
        await response(scope, receive, send)
