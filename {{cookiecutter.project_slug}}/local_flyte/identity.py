"""The caller's identity, and where to sign in."""

from flyteidl2.auth import auth_service_connect, auth_service_pb2, identity_connect, identity_pb2

from .access import Context, known_caller


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
    """Returns where to sign in."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def get_o_auth2_metadata(
        self, request: auth_service_pb2.GetOAuth2MetadataRequest, ctx: Context
    ) -> auth_service_pb2.GetOAuth2MetadataResponse:
        return auth_service_pb2.GetOAuth2MetadataResponse(issuer=self._url)

    async def get_public_client_config(
        self, request: auth_service_pb2.GetPublicClientConfigRequest, ctx: Context
    ) -> auth_service_pb2.GetPublicClientConfigResponse:
        return auth_service_pb2.GetPublicClientConfigResponse(scopes=["all"])
