"""The complete local Flyte: its services, and how it starts, stops and is steered by tests."""

import asyncio
import contextlib
import ssl
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trustme
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2
from flyteidl2.auth import auth_service_connect, auth_service_pb2, identity_connect, identity_pb2
from flyteidl2.cluster import payload_pb2 as cluster_pb2
from flyteidl2.cluster import service_connect as cluster_service_connect
from flyteidl2.imagebuilder import definition_pb2 as image_definition_pb2
from flyteidl2.imagebuilder import payload_pb2 as image_pb2
from flyteidl2.imagebuilder import service_connect as image_service_connect
from starlette.types import ASGIApp

from .access import Access, Context, Faults, Gateway, ReceivedCall, known_caller
from .actions import Runs
from .apps import POLL_SECONDS, AppService
from .clients import Clients
from .data import DataProxyService, Storage
from .execution import Conditions, Executor
from .people import PEOPLE, Directory, Mode, Person, claimed_identity, person
from .processes import Containers
from .runs import ActionsService, RunService
from .serving import HOST, STOP_SECONDS, Background, listen
from .tasks import ProjectService, TaskService, TriggerService


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


@dataclass(eq=False)
class AuthMetadataService(auth_service_connect.AuthMetadataService):
    """Returns where to sign in: here, or as open-source Flyte, whose default is not to know."""

    _url: str
    _mode: Mode

    async def get_o_auth2_metadata(
        self, request: auth_service_pb2.GetOAuth2MetadataRequest, ctx: Context
    ) -> auth_service_pb2.GetOAuth2MetadataResponse:
        if self._mode is not Mode.UNION:
            raise ConnectError(Code.UNIMPLEMENTED, "no authorization server is configured")
        return auth_service_pb2.GetOAuth2MetadataResponse(issuer=self._url)

    async def get_public_client_config(
        self, request: auth_service_pb2.GetPublicClientConfigRequest, ctx: Context
    ) -> auth_service_pb2.GetPublicClientConfigResponse:
        return auth_service_pb2.GetPublicClientConfigResponse(scopes=["all"])


@dataclass(eq=False)
class ClusterService(cluster_service_connect.ClusterService):
    """Returns this Flyte's address, as the only cluster."""

    _mode: Mode
    endpoint: str | None = None
    """The address to return; None for the one that the caller used."""

    async def select_cluster(
        self, request: cluster_pb2.SelectClusterRequest, ctx: Context
    ) -> cluster_pb2.SelectClusterResponse:
        """The open-source Flyte does so only behind a proxy that sets X-Forwarded-Proto."""
        scheme = "http" if self._mode is Mode.DEVBOX else "https"
        here = f"{scheme}://{ctx.request_headers().get('host')}"
        return cluster_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)


class ImageService(image_service_connect.ImageService):
    """Says that every image has been built: the Python environment of this machine replaces all.

    The open-source Flyte has no such service: the SDK asks the registry that Docker pushes to.
    """

    async def get_image(
        self, request: image_pb2.GetImageRequest, ctx: Context
    ) -> image_pb2.GetImageResponse:
        built = f"local/{Path(request.id.name).name}"
        image = image_definition_pb2.Image(id=request.id, fqin=built)
        return image_pb2.GetImageResponse(image=image)


class Services:
    """The state that all services share, and the services as ASGI applications."""

    def __init__(self, clients: Clients, containers: Containers, tls: ssl.SSLContext) -> None:
        """Create the services, without deployments or runs; the TLS context is for apps."""
        work = clients.home / "work"
        self.faults = Faults()
        self.storage = Storage(clients.home / "data")
        self.clusters = ClusterService(clients.mode)
        union = clients.mode is Mode.UNION
        self.apps = AppService(containers, work, clients.app_environment(), clients.url, tls)
        self.runs = Runs(recovers=union)
        self.executor = Executor(containers, work, clients.task_environment, keeps_pods=union)
        access = [Access(self.faults, clients.mode)]
        projects = ProjectService(clients.project, clients.domain)
        self.tasks = tasks = TaskService(projects)
        conditions = Conditions(self.faults)
        services: list[object] = [
            IdentityService(),
            self.clusters,
            projects,
            tasks,
            TriggerService(),
            RunService(self.runs, projects, tasks, self.storage, self.executor, conditions),
            ActionsService(self.runs, self.executor, conditions),
            DataProxyService(self.runs, projects, self.storage),
            self.apps,
        ]
        if union:
            services.append(ImageService())
        served = [_application(service, interceptors=access) for service in services]
        # A client without a token may look up where to sign in.
        served.append(_application(AuthMetadataService(clients.url, clients.mode)))
        self.applications: dict[str, ASGIApp] = {one.path: one for one in served}

    async def reset(self) -> None:
        """Stop and delete all runs and apps, and remove all faults; tasks stay deployed."""
        self.faults.clear()
        await asyncio.gather(self.executor.close(), self.apps.clear())
        self.runs.clear()


class LocalFlyte(Clients):
    """A stand-in for a Flyte cluster, for development and tests. A context manager.

    It listens on the loopback interface, with TLS and an authority of its own, stores everything in
    memory and in ``home``, and executes runs and apps as processes on this machine.
    """

    def __init__(
        self,
        project: str = "flytesnacks",
        domain: str = "development",
        *,
        app_bin: Path | None = None,
        credential_headers: Iterable[str] = (),
        mode: Mode = Mode.UNION,
    ) -> None:
        """Configure it; entering the context starts it.

        Args:
            project: The only project, which people have rights on.
            domain: The domain in clients' configurations.
            app_bin: Folder with the programs (``a0``, ``fserve``, ``python``) of the Python
                environment that replaces the image of tasks and apps; None for the current one.
            credential_headers: Further headers that may contain a person's ``api_key``.
            mode: The kind of Flyte that it acts like.
        """
        self.project = project
        self.domain = domain
        self.people = Directory(PEOPLE.values(), credential_headers)
        self.mode = mode
        self._programs = app_bin or Path(sys.executable).parent

    def wait_app(self, name: str, seconds: float = 300) -> str:
        """Wait until the latest revision of a deployed app is up, and return its address.

        Raises:
            ConnectError: NOT_FOUND, if there is no such app.
            RuntimeError: With the app's output, if it exits instead, or takes too long.
        """
        id_ = app_definition_pb2.Identifier(project=self.project, domain=self.domain, name=name)
        app, deadline = self._services.apps.find(id_), time.monotonic() + seconds
        while app.status in {"PENDING", "DEPLOYING"} and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if app.status != "ACTIVE":
            raise RuntimeError(f"the app {name} is not up; it has printed:\n{''.join(app.log)}")
        return app.url

    # For tests

    def add_person(self, name: str) -> Person:
        """Add a person who may view and run."""
        someone = person(name)
        self.people.add(someone)
        return someone

    @property
    def calls(self) -> list[ReceivedCall]:
        """The calls received so far, in order."""
        return list(self._gateway.received)

    def clear_calls(self) -> None:
        """Forget the received calls."""
        self._gateway.received.clear()

    def reset(self) -> None:
        """Forget runs, apps, faults and received calls; tasks and people stay."""
        self._background.run(self._services.reset())
        self.clear_calls()

    def open_calls(self, of: str) -> int:
        """Return the number of open calls, such as streams, of a method or a request id."""
        return self._background.call(lambda: self._gateway.open_calls[of])

    def fail_next(
        self,
        method: str,
        code: Code,
        times: int = 1,
        message: str = "a test wants it to fail",
        after: int = 0,
    ) -> None:
        """Make the next calls of a method fail, after a stream has sent some messages."""
        error = ConnectError(code, message)
        self._background.call(lambda: self._services.faults.fail(method, error, times, after))

    @contextlib.contextmanager
    def hang(self, method: str, after: int = 0) -> Iterator[None]:
        """Make calls of a method hang inside the block, after a stream has sent some messages.

        With ``execution.RECORDING``, answers are not recorded, although their tasks get them.
        """
        faults = self._services.faults
        self._background.call(lambda: faults.hold(method, after))
        try:
            yield
        finally:
            self._background.call(lambda: faults.release(method))

    @contextlib.contextmanager
    def cluster_at(self, endpoint: str) -> Iterator[None]:
        """Make SelectCluster return another address, such as ``http://...``, inside the block."""
        self._services.clusters.endpoint = endpoint
        try:
            yield
        finally:
            self._services.clusters.endpoint = None

    def delete_pods(self) -> None:
        """Delete the pods that have ended, and so their logs, as Flyte does after an hour."""
        self._background.call(self._services.runs.delete_pods)

    # Start and stop

    def __enter__(self) -> Self:
        """Start, and wait until clients can connect."""
        with contextlib.ExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix="flyte-", ignore_cleanup_errors=True)
            self.home = Path(stack.enter_context(temporary)).resolve()
            listener = stack.enter_context(listen())
            self.port = listener.getsockname()[1]
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.ca_file)
            certificate = self.home / "server.pem"
            authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(certificate)
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            containers = Containers(self._programs, self.home / "containers")
            stack.callback(containers.close)
            self._services = services = Services(self, containers, tls)
            find = {Mode.UNION: self.people.find, Mode.OPEN_SOURCE: claimed_identity}
            self._gateway = Gateway(find.get(self.mode, lambda _: None), services.applications)
            self._background = background = Background()
            served = None if self.mode is Mode.DEVBOX else certificate
            background.add(self._gateway, listener, served)
            uploads = stack.enter_context(listen())
            services.storage.address = f"http://{HOST}:{uploads.getsockname()[1]}"
            background.add(services.storage, uploads)
            background.start()
            stack.callback(background.stop)
            stack.callback(lambda: background.run(services.reset(), STOP_SECONDS))
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every process, stream and connection."""
        self._running.close()


def _application(service: object, **options: Any) -> Any:
    """Return the ASGI application for a service, which the module of its stub defines."""
    stub = type(service).__bases__[0]
    kind = getattr(sys.modules[stub.__module__], f"{stub.__name__}ASGIApplication")
    return kind(service, **options)
