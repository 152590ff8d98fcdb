"""IdentityService: who the caller is."""

from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.auth import identity_connect, identity_pb2

from .access import known_caller


class IdentityService(identity_connect.IdentityService):
    """Answers with the person whose credentials the call carries."""

    async def user_info(
        self, request: identity_pb2.UserInfoRequest, ctx: RequestContext[Any, Any]
    ) -> identity_pb2.UserInfoResponse:
        """Describe the caller."""
        person = known_caller()
        return identity_pb2.UserInfoResponse(
            subject=person.subject,
            name=f"{person.given_name} {person.family_name}".strip(),
            given_name=person.given_name,
            family_name=person.family_name,
            email=person.email,
        )
