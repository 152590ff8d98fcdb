"""AppService: deployed apps, and the processes that serve them.

A cluster has a proxy in front of an app, but this server has none. Therefore an app has no sign-in,
always runs as one replica, and is killed before the process of a new revision starts. An app must
take the port from the SDK, as a FastAPIAppEnvironment does.
"""

import asyncio
import contextlib
import secrets
import socket
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flyteidl2.app import app_definition_pb2, app_service_connect
from flyteidl2.app import app_payload_pb2 as pb

from .access import Context, key_of, require
from .actions import now
from .execution import TAIL
from .processes import Containers, substituted
from .secret_service import SecretError, SecretService
from .serving import HOST, listen

_Status = app_definition_pb2.Status
_Spec = app_definition_pb2.Spec
POLL_SECONDS = 0.02


def other_port(port: int) -> dict[str, str]:
    """Return variables that make the SDK serve an app on ``port``.

    The SDK defines the variables for a development cluster, where apps also share the host's ports.
    """
    return {"_F_APPLE_SILICON_ON_HOST": "1", "_F_APPLE_SILICON_HOST_PORT": str(port)}


def free_port() -> int:
    """Return a free port below 32768, which is the first port that Linux assigns by itself."""
    while True:
        port = 16_384 + secrets.randbelow(16_384)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port


@dataclass
class App:
    """An app: its state, the process of its current revision, and the output of this process."""

    state: app_definition_pb2.App
    port: int = field(default_factory=free_port)
    """Port that the process listens on, in every revision."""
    tls_port: int = field(default_factory=free_port)
    """Public port, with TLS."""
    process: asyncio.Task[None] | None = None
    log: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.state.metadata.id.name

    @property
    def url(self) -> str:
        """URL of the port without TLS. No sign-in proxy is in front of the port."""
        return f"http://{HOST}:{self.port}"

    @property
    def status(self) -> str:
        """Deployment status, such as ``ACTIVE``."""
        status = self.state.status.conditions[-1].deployment_status
        return _Status.DeploymentStatus.Name(status).removeprefix("DEPLOYMENT_STATUS_")

    def enter(self, status: int, message: str = "") -> None:
        conditions = self.state.status.conditions
        conditions.add(last_transition_time=now(), deployment_status=status, message=message)


@dataclass(eq=False)
class AppService(app_service_connect.AppService):
    """Deploys, stops and lists apps, by project, domain and name."""

    _containers: Containers
    _secrets: SecretService
    _work: Path
    _environment: Mapping[str, str]
    """Environment variables that a cluster injects into apps."""
    _url: str
    _tls: ssl.SSLContext
    _apps: dict[tuple[str, str, str], App] = field(default_factory=dict)

    def find(self, id_: app_definition_pb2.Identifier) -> App:
        return require(self._apps.get(key_of(id_)), f"app {id_.name} in {id_.project}/{id_.domain}")

    async def create(self, request: pb.CreateRequest, ctx: Context) -> pb.CreateResponse:
        """Deploy an app, and replace an existing app with the same name."""
        request.app.metadata.revision = 0  # the real Flyte always returns revision 0
        app = self._apps.setdefault(key_of(request.app.metadata.id), App(request.app))
        app.state.status.ingress.public_url = f"https://{HOST}:{app.tls_port}"
        await self._replace(app, request.app.spec)
        return pb.CreateResponse(app=app.state)

    async def get(self, request: pb.GetRequest, ctx: Context) -> pb.GetResponse:
        return pb.GetResponse(app=self.find(request.app_id).state)

    async def update(self, request: pb.UpdateRequest, ctx: Context) -> pb.UpdateResponse:
        """Deploy an existing app again, stop the app or start the app."""
        app = self.find(request.app.metadata.id)
        await self._replace(app, request.app.spec)
        return pb.UpdateResponse(app=app.state)

    async def delete(self, request: pb.DeleteRequest, ctx: Context) -> pb.DeleteResponse:
        """Delete an app. If the app is missing, the call succeeds."""
        if (app := self._apps.pop(key_of(request.app_id), None)) is not None:
            await self._end(app)
        return pb.DeleteResponse()

    async def list(self, request: pb.ListRequest, ctx: Context) -> pb.ListResponse:
        """List the apps of a project and domain, sorted by name, in one page."""
        scope = (request.project.name, request.project.domain)
        apps = [app.state for key, app in sorted(self._apps.items()) if key[:2] == scope]
        return pb.ListResponse(apps=apps)

    async def _replace(self, app: App, spec: app_definition_pb2.Spec) -> None:
        """Apply a new spec, which starts or stops the app."""
        await self._end(app)
        app.state.spec.CopyFrom(spec)
        app.log.clear()
        if spec.desired_state == _Spec.DESIRED_STATE_STOPPED:
            app.enter(_Status.DEPLOYMENT_STATUS_STOPPED)
        else:
            app.enter(_Status.DEPLOYMENT_STATUS_PENDING)
            app.process = asyncio.create_task(self._serve(app))

    async def clear(self) -> None:
        await asyncio.gather(*map(self._end, self._apps.values()))
        self._apps.clear()

    async def _serve(self, app: App) -> None:
        """Run the container of the current revision until it exits or is stopped."""
        container = app.state.spec.container
        values = {"rawOutputDataPrefix": str(self._work / "raw" / app.name)}
        # This server's endpoint and certificate authority replace those in the app's environment.
        variables = {one.key: one.value for one in container.env} | dict(self._environment)
        if "FLYTE_ENDPOINT" in variables:
            variables["FLYTE_ENDPOINT"] = self._url
        wanted, id_ = app.state.spec.security_context.secrets, app.state.metadata.id
        listening = asyncio.create_task(self._relay(app))
        try:
            with self._secrets.mounted(wanted, id_.project, id_.domain) as secret_variables:
                code = await self._containers.run(
                    [substituted(word, values) for word in (*container.command, *container.args)],
                    directory=Path(tempfile.mkdtemp(f"-{app.name}", "app-", self._work)),
                    environment={**variables, **secret_variables, **other_port(app.port)},
                    started=lambda: app.enter(_Status.DEPLOYMENT_STATUS_DEPLOYING),
                    output=app.log.append,
                )
            message = f"the app's process ended with exit code {code}:\n{''.join(app.log[-TAIL:])}"
        except SecretError as error:
            message = str(error)
            app.log.append(message)
        finally:
            listening.cancel()
        app.enter(_Status.DEPLOYMENT_STATUS_FAILED, message)

    async def _relay(self, app: App) -> None:
        """Wait until the app listens, then forward TLS connections to the app."""

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(OSError):
                app_reader, app_writer = await asyncio.open_connection(HOST, app.port)
                await asyncio.gather(_copy(reader, app_writer), _copy(app_reader, writer))

        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection(HOST, app.port))[1].close()
                break
            await asyncio.sleep(POLL_SECONDS)
        listener = listen(app.tls_port)
        async with await asyncio.start_server(connect, sock=listener, ssl=self._tls) as front:
            app.enter(_Status.DEPLOYMENT_STATUS_ACTIVE)
            await front.serve_forever()

    @staticmethod
    async def _end(app: App) -> None:
        if app.process is not None:
            app.process.cancel()
            await asyncio.wait({app.process})
            app.process = None


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.closing(target), contextlib.suppress(OSError):
        while data := await source.read(2**16):
            target.write(data)
            await target.drain()
