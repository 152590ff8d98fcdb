"""The app's own identity, for requests that come from no caller of Flyte's, such as webhooks."""

import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyte import remote

from .apps import send
from .sdk import initialised

EARLY = 60  # seconds before its end that a token is replaced


class OwnIdentity:
    """Calls Flyte as the application that a Flyte API key belongs to.

    Only inside the block, so that the requests of people are not affected::

        robot = OwnIdentity(os.environ["ROBOT_API_KEY"])

        async with robot.acting():
            run = await flyte.run.aio(task, ...)
    """

    def __init__(self, api_key: str) -> None:
        """Take a key as ``flyte create api-key`` prints it.

        Raises:
            ValueError: It is not such a key.
        """
        try:
            host, client, secret, _ = b64decode(api_key, validate=True).decode().rsplit(":", 3)
        except ValueError:
            raise ValueError("this is not an API key of Flyte's") from None
        self._host = re.sub("^[a-z]+:/*", "", host)
        self._basic = "Basic " + b64encode(f"{client}:{secret}".encode()).decode()
        self._token, self._ends = "", 0.0

    @asynccontextmanager
    async def acting(self) -> AsyncGenerator[None]:
        """Call Flyte as this application inside the block."""
        if time.monotonic() > self._ends - EARLY:
            await self._renew()
        with remote.auth_metadata(("authorization", f"Bearer {self._token}")):
            yield

    async def _renew(self) -> None:
        """Exchange the key for a token, as RFC 6749 4.4 says, where Flyte says."""
        flyte_address = initialised().client.session_config.endpoint
        if urlsplit(flyte_address).netloc != self._host:
            raise ConnectError(Code.INTERNAL, f"the API key is for {self._host}, another Flyte")
        service = f"{flyte_address}/flyteidl2.auth.AuthMetadataService"
        asked = {"content-type": "application/json"}
        metadata = await _post(f"{service}/GetOAuth2Metadata", asked, b"{}")
        config = await _post(f"{service}/GetPublicClientConfig", asked, b"{}")
        form = {"grant_type": "client_credentials", "scope": " ".join(config.get("scopes", ()))}
        if audience := config.get("audience"):
            form["audience"] = audience
        headers = {
            "authorization": self._basic,
            "content-type": "application/x-www-form-urlencoded",
        }
        told = await _post(metadata["tokenEndpoint"], headers, urlencode(form).encode())
        self._token = told["access_token"]
        self._ends = time.monotonic() + told.get("expires_in", 0)


async def _post(address: str, headers: dict[str, str], content: bytes) -> Any:
    if not address.startswith("https://"):
        raise ConnectError(Code.INTERNAL, f"{address!r} is not an https:// address")
    answer = await send("POST", address, headers=headers, content=content)
    if answer.status != 200:
        raise ConnectError(Code.INTERNAL, f"{address} has refused the API key: {answer.status}")
    return json.loads(answer.text())
