"""AppService: deployed apps, and the processes that serve them.

Unlike on a cluster, there is nothing in front of an app: no sign-in, no scaling (always one
replica), no rolling update (the old revision ends before the new one starts).
"""

import asyncio
import contextlib
import secrets
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2, app_service_connect
from flyteidl2.app import app_payload_pb2 as pb
from flyteidl2.core import tasks_pb2

from .access import CALLER, Context, found, invalid
from .actions import Signal, now
from .processes import Containers, substituted
from .serving import HOST, listen

_Status = app_definition_pb2.Status
_Spec = app_definition_pb2.Spec
SETTLED = {
    _Status.DEPLOYMENT_STATUS_ACTIVE,
    _Status.DEPLOYMENT_STATUS_FAILED,
    _Status.DEPLOYMENT_STATUS_STOPPED,
}
POLL_SECONDS = 0.02
GRACE_SECONDS = 2
TAIL = 20  # lines of the log in the message about a failure


@dataclass
class App:
    """An app, its current revision's process, and the process's output."""

    state: app_definition_pb2.App
    """All of its state, as the API shows it."""
    port: int
    """The port that its process listens on, in every revision."""
    tls_port: int
    """Its public port, with TLS."""
    changed: Signal = field(default_factory=Signal)
    process: asyncio.Task[None] | None = None
    log: list[str] = field(default_factory=list)
    """What the process has printed, in lines with their breaks."""

    @property
    def name(self) -> str:
        return self.state.metadata.id.name

    @property
    def url(self) -> str:
        """Its address without TLS, and without a sign-in in front."""
        return f"http://{HOST}:{self.port}"

    @property
    def status(self) -> int:
        return self.state.status.conditions[-1].deployment_status

    def enter(self, status: int, message: str = "") -> None:
        """Enter another deployment status, and notify watchers."""
        moment = now()
        self.state.status.last_updated_at.CopyFrom(moment)
        self.state.status.conditions.add(
            last_transition_time=moment, deployment_status=status, message=message
        )
        self.state.status.current_replicas = int(status == _Status.DEPLOYMENT_STATUS_ACTIVE)
        self.changed.fire()

    async def is_up(self, seconds: float) -> bool:
        """Wait until its revision accepts connections or has ended, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.status not in SETTLED:
                    await self.changed.wait()
        return self.status == _Status.DEPLOYMENT_STATUS_ACTIVE


@dataclass(eq=False)
class AppService(app_service_connect.AppService):
    """All apps, by project, domain and name, and their processes."""

    _containers: Containers
    _work: Path
    """The folder for their working directories."""
    _environment: Mapping[str, str]
    """The variables that a cluster injects into them."""
    _url: str
    """The address of this Flyte."""
    _tls: ssl.SSLContext | None
    """None if they have no TLS."""
    _apps: dict[tuple[str, str, str], App] = field(default_factory=dict)

    def find(self, id_: app_definition_pb2.Identifier) -> App:
        """Return the app, or raise NOT_FOUND."""
        return found(self._apps.get(_key(id_)), f"app {id_.name} in {id_.project}/{id_.domain}")

    async def create(self, request: pb.CreateRequest, ctx: Context) -> pb.CreateResponse:
        """Deploy an app, for the first time or again."""
        if (someone := CALLER.get()) is not None:
            request.app.spec.creator.CopyFrom(someone.identity)
        if (app := self._apps.get(_key(request.app.metadata.id))) is not None:
            await self._replace(app, request.app.spec)
        else:
            app = self._add(request.app)
        return pb.CreateResponse(app=app.state)

    async def get(self, request: pb.GetRequest, ctx: Context) -> pb.GetResponse:
        return pb.GetResponse(app=self.find(request.app_id).state)

    async def update(self, request: pb.UpdateRequest, ctx: Context) -> pb.UpdateResponse:
        """Deploy an app again, or stop or start it; each makes a new revision."""
        app = self.find(request.app.metadata.id)
        await self._replace(app, request.app.spec)
        return pb.UpdateResponse(app=app.state)

    async def delete(self, request: pb.DeleteRequest, ctx: Context) -> pb.DeleteResponse:
        """Delete an app; it may not exist."""
        await self._remove(request.app_id)
        return pb.DeleteResponse()

    async def list(self, request: pb.ListRequest, ctx: Context) -> pb.ListResponse:
        """List the apps of a project and domain by name, in one page."""
        if not request.HasField("project"):
            raise invalid("apps can be listed only by project")
        scope = (request.project.name, request.project.domain)
        apps = [app.state for key, app in sorted(self._apps.items()) if key[:2] == scope]
        return pb.ListResponse(apps=apps)

    async def watch(
        self, request: pb.WatchRequest, ctx: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        """Send an app now and at each change, until it is deleted."""
        app = self.find(request.app_id)
        sent = 0
        while self.holds(app):
            if len(app.state.status.conditions) > sent:
                sent = len(app.state.status.conditions)
                event = pb.UpdateEvent(updated_app=app.state)
                yield pb.WatchResponse(update_event=event)
            else:
                await app.changed.wait()

    def _add(self, state: app_definition_pb2.App) -> App:
        """Store and serve a new app."""
        _check_servable(state.spec)
        app = App(state=state, port=free_port(), tls_port=free_port())
        state.status.created_at.CopyFrom(now())
        with_tls = f"https://{HOST}:{app.tls_port}"
        state.status.ingress.public_url = with_tls if self._tls else app.url
        state.metadata.revision = 0  # it stays 0: Flyte does not count revisions
        self._apps[_key(state.metadata.id)] = app
        self._start(app)
        return app

    async def _replace(self, app: App, spec: app_definition_pb2.Spec) -> None:
        """Serve the app with a new spec, which may stop it."""
        _check_servable(spec)
        await self._end(app)
        app.state.spec.CopyFrom(spec)
        self._start(app)

    def _start(self, app: App) -> None:
        if app.state.spec.desired_state == _Spec.DESIRED_STATE_STOPPED:
            app.enter(_Status.DEPLOYMENT_STATUS_STOPPED)
            return
        app.log.clear()
        app.enter(_Status.DEPLOYMENT_STATUS_PENDING)
        app.process = asyncio.create_task(self._serve(app))

    async def _remove(self, id_: app_definition_pb2.Identifier) -> None:
        """Stop and delete the app, if there is one."""
        if (app := self._apps.pop(_key(id_), None)) is not None:
            await self._end(app)
            app.changed.fire()

    async def clear(self) -> None:
        """Stop and delete all apps, which ends all watches."""
        apps = tuple(self._apps.values())
        await asyncio.gather(*(self._remove(app.state.metadata.id) for app in apps))

    def holds(self, app: App) -> bool:
        """Tell whether this app is still deployed."""
        return self._apps.get(_key(app.state.metadata.id)) is app

    async def _serve(self, app: App) -> None:
        """Run the container of the current revision until it exits or is stopped."""
        container = app.state.spec.container
        values = {"rawOutputDataPrefix": str(self._work / "raw" / app.name)}
        revisions = self._work / "apps" / app.name
        listening = asyncio.create_task(self._relay(app))
        try:
            revisions.mkdir(parents=True, exist_ok=True)
            code = await self._containers.run(
                [substituted(each, values) for each in (*container.command, *container.args)],
                directory=Path(tempfile.mkdtemp(dir=revisions)),
                environment={
                    **self._environment,
                    **self._declared(container),
                    **other_port(app.port),
                },
                started=lambda: app.enter(_Status.DEPLOYMENT_STATUS_DEPLOYING),
                output=app.log.append,
                grace_seconds=GRACE_SECONDS,
            )
            tail = "".join(app.log[-TAIL:])
            message = f"the app's process ended with exit code {code}:\n{tail}"
        except Exception as failure:  # noqa: BLE001 - any failure means that the app is not served
            message = f"the app can't be served: {failure}"
        finally:
            listening.cancel()
        app.enter(_Status.DEPLOYMENT_STATUS_FAILED, message)

    def _declared(self, container: tasks_pb2.Container) -> dict[str, str]:
        # The owner may have set Flyte's address and an authority to trust: here both are local.
        declared = {each.key: each.value for each in container.env}
        declared.pop("SSL_CERT_FILE", None)
        return declared | ({"FLYTE_ENDPOINT": self._url} if "FLYTE_ENDPOINT" in declared else {})

    async def _relay(self, app: App) -> None:
        """Wait until the app listens, then relay connections to it, with TLS if apps have TLS."""

        async def connect(said: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
            with contextlib.closing(answer), contextlib.suppress(OSError):
                answered, say = await asyncio.open_connection(HOST, app.port)
                await asyncio.gather(_copy(said, say), _copy(answered, answer))

        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection(HOST, app.port))[1].close()
                break
            await asyncio.sleep(POLL_SECONDS)
        async with await asyncio.start_server(
            connect, sock=listen(app.tls_port), ssl=self._tls
        ) as front:
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


def _key(id_: app_definition_pb2.Identifier) -> tuple[str, str, str]:
    return id_.project, id_.domain, id_.name


def _check_servable(spec: app_definition_pb2.Spec) -> None:
    words = [*spec.container.command, *spec.container.args]
    # The dashes are followed by the app's own command, if it has one.
    if words[:1] != ["fserve"] or words[-1] != "--":
        raise ConnectError(
            Code.FAILED_PRECONDITION,
            "the local Flyte serves apps that get their port from the SDK, such as a "
            "FastAPIAppEnvironment, not apps with a command of their own",
        )


def other_port(port: int) -> dict[str, str]:
    """Return variables that make the SDK serve an app on another port than the container's.

    A container has all ports for itself; here, apps share the machine's ports. The SDK has these
    variables for a development cluster, where apps on the host do the same.
    """
    return {"_F_APPLE_SILICON_ON_HOST": "1", "_F_APPLE_SILICON_HOST_PORT": str(port)}


def free_port() -> int:
    """Return a port that is free, and that the system does not give to others in the meantime.

    It chooses ports from 32768 on (Linux), or from 49152 on.
    """
    while True:
        port = 16_384 + secrets.randbelow(16_384)
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
