"""The connection to Flyte. Calls are made as the caller of the current request and end with it.

In passthrough mode the Flyte SDK sends whatever ``passthrough_auth`` put into the request's
context, and nothing else: the app has no identity that a call could fall back on. The services are
called directly, in the app's own event loop, because ``flyte.remote`` is made for one user per
process. It keeps calling after a client disconnects, has no timeout, and rebuilds Python values
from what other people have stored.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import urlsplit

import flyte
import pyqwest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

# Private, and the only thing of the SDK's that is: it has no public name for its connection.
# tests/test_flyte_client.py fails when it is gone.
from flyte._initialize import get_client
from flyteidl2.auth.identity_connect import IdentityServiceClient
from flyteidl2.cluster.payload_pb2 import SelectClusterRequest
from flyteidl2.cluster.service_connect import ClusterServiceClient
from flyteidl2.common.identifier_pb2 import ActionIdentifier, ProjectIdentifier
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyServiceClient
from flyteidl2.dataproxy.dataproxy_service_pb2 import (
    GetActionDataRequest,
    GetActionDataResponse,
    TailLogsRequest,
    TailLogsResponse,
    UploadInputsRequest,
    UploadInputsResponse,
)
from flyteidl2.project.project_service_connect import ProjectServiceClient
from flyteidl2.task.task_service_connect import TaskServiceClient
from flyteidl2.workflow.run_definition_pb2 import ActionDetails
from flyteidl2.workflow.run_service_connect import RunServiceClient
from flyteidl2.workflow.run_service_pb2 import GetActionDetailsRequest
from google.protobuf.message import DecodeError

from .problems import LONGEST_DETAIL, quotes
from .settings import Settings, check_connection

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")
Context = RequestContext[Any, Any]

ROOT_ACTION = "a0"
"""The action that a run begins with, and in which Flyte keeps what there is to know of the run."""

PAUSES = (0.25, 0.5, 1.0)
"""Delays in seconds between retries."""

UNREADABLE = "what Flyte has stored is too large, or nested too deep, to be read"

OWN_HEADERS = {
    "accept-encoding",
    "connect-accept-encoding",
    "connect-content-encoding",
    "connect-protocol-version",
    "content-encoding",
    "content-type",
    "user-agent",
    "x-request-id",
}
"""Headers that each call has. The others are the caller's credentials."""


class Flyte:
    """The Flyte that the app is connected to. Each call is made as whoever is being served.

    Calls raise `connectrpc.errors.ConnectError`, or `TimeoutError` if they get no answer in time;
    ``problems.py`` turns both into responses.
    """

    def __init__(self, settings: Settings) -> None:
        """Take over the connection of the SDK, which must have been initialised."""
        client = get_client()
        session = client.session_config
        self.timeout = settings.flyte_timeout
        self.is_plaintext = session.insecure
        self.org = settings.flyte_org or _org_of(session.endpoint)
        self.project, self.domain = settings.flyte_project, settings.flyte_domain
        self.run_url = client.console.run_url
        self._address = session.endpoint
        self._data_addresses = {
            address for address in settings.flyte_data_addresses if address.startswith("https://")
        }
        self._options: dict[str, Any] = {
            "interceptors": (_Deadline(self.timeout), *session.interceptors, _Redaction()),
            # The SDK's own follows redirects, and takes the credentials along.
            "http_client": pyqwest.Client(
                pyqwest.HTTPTransport(
                    follow_redirects=False,
                    tls_ca_cert=session.tls_ca_cert,
                    tls_include_system_certs=session.tls_ca_cert is None,
                    use_system_dns=True,
                )
            ),
        }
        self.identity = IdentityServiceClient(self._address, **self._options)
        # Calls once and as nobody: the SDK's interceptors call again after UNAUTHENTICATED.
        once = {"interceptors": (_Deadline(self.timeout, pauses=()), _Redaction())}
        self.probe = IdentityServiceClient(self._address, **(self._options | once))
        self.projects = ProjectServiceClient(self._address, **self._options)
        self.runs = RunServiceClient(self._address, **self._options)
        self.tasks = TaskServiceClient(self._address, **self._options)
        self._clusters = ClusterServiceClient(self._address, **self._options)
        self._own_data = DataProxyServiceClient(self._address, **self._options)

    async def get_action(self, action: ActionIdentifier) -> ActionDetails:
        """Fetch an action and its state; a run's are those of its root action."""
        request = GetActionDetailsRequest(action_id=action)
        return (await self.runs.get_action_details(request)).details

    # Data may be kept by another cluster than the one that knows the runs.

    async def upload_inputs(self, request: UploadInputsRequest) -> UploadInputsResponse:
        """Store the inputs of a run that is about to be created."""
        run = request.run_id
        project = ProjectIdentifier(organization=run.org, name=run.project, domain=run.domain)
        operation = SelectClusterRequest.OPERATION_UPLOAD_INPUTS
        data = await self._data(SelectClusterRequest(project_id=project, operation=operation))
        return await data.upload_inputs(request)

    async def get_action_data(self, action: ActionIdentifier) -> GetActionDataResponse:
        """Fetch what went into an action and, if it succeeded, what came out."""
        operation = SelectClusterRequest.OPERATION_GET_ACTION_DATA
        data = await self._data(SelectClusterRequest(action_id=action, operation=operation))
        return await data.get_action_data(GetActionDataRequest(action_id=action))

    async def tail_logs(
        self, action: ActionIdentifier, attempt: int
    ) -> AsyncIterator[TailLogsResponse]:
        """Return the log of an action from its beginning, as it grows."""
        operation = SelectClusterRequest.OPERATION_TAIL_LOGS
        data = await self._data(SelectClusterRequest(action_id=action, operation=operation))
        return data.tail_logs(TailLogsRequest(action_id=action, attempt=attempt))

    async def _data(self, request: SelectClusterRequest) -> DataProxyServiceClient:
        """Ask, as the caller, where data is, and go there only if that is Flyte, over TLS.

        Not cached: a caller without the right must not get another caller's answer.
        """
        try:
            address = (await self._clusters.select_cluster(request)).cluster_endpoint
        except ConnectError as error:
            if error.code is not Code.UNIMPLEMENTED:  # as a Flyte does that has no clusters
                raise
            address = ""
        url = url_of(address)
        # The open-source Flyte repeats the Host header, with http:// if TLS ends before it.
        if not address or _host_of(url) == _host_of(self._address):
            return self._own_data
        if url in self._data_addresses or is_neighbour(url, self._address):
            return DataProxyServiceClient(url, **self._options)
        raise ConnectError(
            Code.INTERNAL,
            f"Flyte stores this data at {address!r}, which is not an https:// address in its own"
            " domain. To send callers' credentials there, add its https:// address to"
            " FLYTE_DATA_ADDRESSES.",
        )


async def connect(settings: Settings) -> Flyte:
    """Connect this process to Flyte in passthrough mode. Sends nothing yet.

    Raises:
        SettingsError: If there is no Flyte to speak to, or callers' credentials would be dropped.
    """
    check_connection(settings)
    if settings.flyte_plaintext:
        logger.warning("Flyte is spoken to in plaintext: every caller acts as nobody")
    # The SDK sends usage reports, which is for the app's owner to allow (DO_NOT_TRACK=0).
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # As `flyte.init_passthrough`, but for the retries: the SDK's log what Flyte said at DEBUG, and
    # restart streams silently.
    await flyte.init.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
        auth_type="Passthrough",
        rpc_retries=0,
    )
    return Flyte(settings)


def _org_of(address: str) -> str:
    """Guess the organization from the host, as the SDK does where none is set."""
    labels = urlsplit(address).netloc.split(".")
    return labels[0] if len(labels) > 2 else ""


def url_of(address: str) -> str:
    """Write an address as a URL, with TLS where it names no scheme: Flyte's may be a gRPC target."""
    if re.match(r"https?://", address):
        return address
    return f"https://{re.sub('^dns:/*', '', address)}"


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:  # it is no URL
        return None


def is_neighbour(address: str, flyte: str) -> bool:
    """Tell whether an address has TLS and is in the same domain as Flyte's: a cluster of its own.

    ``https://cluster.acme.example`` is one of ``https://flyte.acme.example``. No address is
    a neighbour of ``flyte.co.uk``: anyone can register a name under ``co.uk``.
    """
    domain = (urlsplit(flyte).hostname or "").partition(".")[2]
    if "." not in domain or domain.rpartition(".")[2].isdigit():  # one label, or an IP address
        return False
    if re.fullmatch(r"[a-z]{2,3}\.[a-z]{2}", domain):
        return False
    return re.fullmatch(rf"https://[a-z0-9.-]+\.{re.escape(domain)}(:443)?/?", address) is not None


class _Deadline:
    """Ends a call with the request that it is made for, or when it takes too long.

    The Connect client turns a cancellation into a ConnectError, which would swallow it. Outermost,
    so that the time includes retries.
    """

    def __init__(self, seconds: float, pauses: tuple[float, ...] = PAUSES) -> None:
        self._seconds, self._pauses = seconds, pauses

    async def intercept_unary(
        self,
        call_next: Callable[[Request, Context], Awaitable[Response]],
        request: Request,
        ctx: Context,
    ) -> Response:
        """Make a call, and make it again if it does not get through."""
        async with asyncio.timeout(self._seconds):
            for pause in self._pauses:
                try:
                    return await call_next(request, ctx)
                except ConnectError as error:
                    _reraise_cause(error)
                    if error.code is not Code.UNAVAILABLE:
                        raise
                await asyncio.sleep(pause)
            try:
                return await call_next(request, ctx)
            except ConnectError as error:
                _reraise_cause(error)
                raise

    async def intercept_server_stream(
        self,
        call_next: Callable[[Request, Context], AsyncGenerator[Response]],
        request: Request,
        ctx: Context,
    ) -> AsyncGenerator[Response]:
        """Pass a stream on; how long it may be silent is for its reader to say."""
        try:
            async with aclosing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
        except ConnectError as error:
            _reraise_cause(error)
            raise


def _reraise_cause(error: ConnectError) -> None:
    """Raise what the Connect client calls CANCELED or UNAVAILABLE, if it is something else."""
    if isinstance(error.__cause__, asyncio.CancelledError):
        raise asyncio.CancelledError
    if isinstance(error.__cause__, DecodeError):  # it will be no other the next time
        raise ConnectError(Code.OUT_OF_RANGE, UNREADABLE)


class _Redaction:
    """Removes the call's credentials from its errors, before the SDK logs them.

    Innermost, where the credentials are among the headers.
    """

    async def intercept_unary(
        self,
        call_next: Callable[[Request, Context], Awaitable[Response]],
        request: Request,
        ctx: Context,
    ) -> Response:
        """Make a call."""
        try:
            return await call_next(request, ctx)
        except ConnectError as error:
            told = _redacted(error, ctx)
        raise told

    async def intercept_server_stream(
        self,
        call_next: Callable[[Request, Context], AsyncGenerator[Response]],
        request: Request,
        ctx: Context,
    ) -> AsyncGenerator[Response]:
        """Make a call that is answered by a stream."""
        try:
            async with aclosing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
        except ConnectError as error:
            told = _redacted(error, ctx)
        else:
            return
        raise told


def _redacted(error: ConnectError, ctx: Context) -> ConnectError:
    """Return the error with a text that is short and without credentials."""
    said = error.message[:LONGEST_DETAIL]
    if _quotes_credentials(said, ctx):
        said = "(removed: it contains a credential)"
    elif len(said) == len(error.message):
        return error
    return ConnectError(error.code, said)


def _quotes_credentials(text: str, ctx: Context) -> bool:
    headers = ctx.request_headers().allitems()
    credentials = (value for name, value in headers if name not in OWN_HEADERS)
    return quotes(text, (word for value in credentials for word in re.split(r"[\s;=]+", value)))
