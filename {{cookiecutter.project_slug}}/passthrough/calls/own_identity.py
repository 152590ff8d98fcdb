"""The app's own identity, for requests without Flyte credentials, such as webhooks."""

import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import flyte
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote
from flyteidl2.auth import auth_service_pb2 as pb
from flyteidl2.auth.auth_service_connect import AuthMetadataServiceClient
from pydantic import BaseModel, Field, ValidationError

from .caller import initialised
from .other_apps import send

EARLY = 60  # replace a token this many seconds before it expires


class Token(BaseModel):
    """RFC 6749 5.1."""

    access_token: str = Field(pattern="^[!-~]+$")
    expires_in: int = Field(default=0, le=10**9)


class AppIdentity:
    """Calls Flyte as the application that owns a Flyte API key.

    This applies only inside the block, and does not affect people's requests::

        robot = AppIdentity("ROBOT_API_KEY")

        async with robot.acting():
            run = await flyte.run.aio(task, ...)
    """

    def __init__(self, variable: str) -> None:
        """Read the key from an environment variable when it is needed.

        Args:
            variable: The variable's name. It holds a key in the format of ``FLYTE_API_KEY``.
        """
        self._variable = variable
        self._key, self._token, self._ends = "", "", 0.0

    @asynccontextmanager
    async def acting(self) -> AsyncGenerator[None]:
        """Call Flyte as the application inside the block.

        Raises:
            ConnectError: The variable holds no valid key, or Flyte does not accept it.
        """
        key = os.environ.get(self._variable, "")
        if key != self._key or time.monotonic() > self._ends - EARLY:
            await self._renew(key)
        with remote.auth_metadata(("authorization", f"Bearer {self._token}")):
            yield

    async def run_once(self, name: str, task: Any, /, **inputs: Any) -> remote.Run:
        """Start a run with this name as the application, or return the existing run with the name.

        This checks first, because on the open-source Flyte a name that is used again after an hour
        runs again.
        """
        async with self.acting():
            try:
                return await remote.Run.get.aio(name)
            except ConnectError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
            return await flyte.with_runcontext(name=name).run.aio(task, **inputs)

    async def _renew(self, key: str) -> None:
        """Exchange the key for a token (RFC 6749 4.4) at the address that Flyte returns."""
        try:
            named, client, secret, _ = b64decode(key, validate=True).decode().rsplit(":", 3)
        except ValueError:
            raise ConnectError(Code.INTERNAL, f"{self._variable} holds no API key") from None
        host = re.sub("^[a-z]+:/*", "", named)
        flyte_address = urlsplit(initialised().client.session_config.endpoint)
        if (flyte_address.scheme, flyte_address.netloc) != ("https", host):
            raise ConnectError(Code.INTERNAL, f"{self._variable} is for another Flyte")
        metadata, config = await sign_in_metadata()
        address = metadata.token_endpoint
        if not address.startswith("https://"):
            raise ConnectError(Code.INTERNAL, f"{address!r} is not an https:// address")
        form = {"grant_type": "client_credentials", "scope": " ".join(config.scopes)}
        if config.audience:
            form["audience"] = config.audience
        headers = {
            "authorization": "Basic " + b64encode(f"{client}:{secret}".encode()).decode(),
            "content-type": "application/x-www-form-urlencoded",
        }
        answer = await send("POST", address, headers=headers, content=urlencode(form).encode())
        if answer.status != 200:
            raise ConnectError(Code.INTERNAL, f"{address} has refused the API key: {answer.status}")
        try:
            token = Token.model_validate_json(answer.content)
        except ValidationError:  # its text may quote the token
            raise ConnectError(Code.INTERNAL, f"the answer of {address} is invalid") from None
        self._key, self._token = key, token.access_token
        self._ends = time.monotonic() + token.expires_in


async def sign_in_metadata() -> tuple[
    pb.GetOAuth2MetadataResponse, pb.GetPublicClientConfigResponse
]:
    """Ask Flyte where to sign in. It answers without credentials."""
    service = AuthMetadataServiceClient(**initialised().client.session_config.connect_kwargs())
    try:
        metadata = await service.get_o_auth2_metadata(pb.GetOAuth2MetadataRequest())
        return metadata, await service.get_public_client_config(pb.GetPublicClientConfigRequest())
    except ConnectError as error:
        if error.code is not Code.UNIMPLEMENTED:
            raise
        # So says the open-source Flyte, if nobody has told it where to sign in.
        return pb.GetOAuth2MetadataResponse(), pb.GetPublicClientConfigResponse()
