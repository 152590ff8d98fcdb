"""The local Flyte server with all services, and methods for tests to control it."""

import asyncio
import contextlib
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import trustme
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2
from flyteidl2.auth import auth_service_connect, auth_service_pb2, identity_connect, identity_pb2
from flyteidl2.cluster import payload_pb2 as cluster_pb2
from flyteidl2.cluster import service_connect as cluster_service_connect
from flyteidl2.common import identifier_pb2
from flyteidl2.imagebuilder import payload_pb2 as image_pb2
from flyteidl2.imagebuilder import service_connect as image_service_connect
from starlette.types import ASGIApp

from .access import Access, Context, Faults, Gateway, Lockstep, ReceivedCall, authenticated_caller
from .actions import Runs
from .apps import POLL_SECONDS, AppService
from .clients import Clients
from .data import DataProxyService, Storage
from .execution import Conditions, Executor
from .people import PEOPLE, Directory, Mode, Person, claimed_identity, person
from .processes import Containers
from .runs import ActionsService, RunService
from .secret_service import SecretService
from .serving import HOST, STOP_SECONDS, Background, listen
from .tasks import ProjectService, TaskService, TriggerService


class IdentityService(identity_connect.IdentityService):
    """Returns the user whose credentials the call contains."""

    async def user_info(
        self, request: identity_pb2.UserInfoRequest, ctx: Context
    ) -> identity_pb2.UserInfoResponse:
        caller = authenticated_caller()
        return identity_pb2.UserInfoResponse(
            subject=caller.subject,
            name=f"{caller.given_name} {caller.family_name}".strip(),
            given_name=caller.given_name,
            family_name=caller.family_name,
            email=caller.email,
        )


@dataclass(eq=False)
class AuthMetadataService(auth_service_connect.AuthMetadataService):
    """Returns OAuth metadata with this server as the issuer. Open-source Flyte returns none."""

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
    """Returns the endpoint of this server as the only cluster."""

    _mode: Mode
    endpoint: str | None = None
    """Endpoint to return. If this is None, the service returns the host in the caller's request."""

    async def select_cluster(
        self, request: cluster_pb2.SelectClusterRequest, ctx: Context
    ) -> cluster_pb2.SelectClusterResponse:
        """Return the endpoint, with the scheme in the header ``X-Forwarded-Proto`` of a proxy."""
        headers = ctx.request_headers()
        default = "http" if self._mode is Mode.DEVBOX else "https"
        here = f"{headers.get('x-forwarded-proto', default)}://{headers.get('host')}"
        return cluster_pb2.SelectClusterResponse(cluster_endpoint=self.endpoint or here)


class ImageService(image_service_connect.ImageService):
    """Reports every image as built, because one local Python environment replaces all images.

    Open-source Flyte has no ImageService, so the SDK queries the registry that Docker pushes to.
    """

    async def get_image(
        self, request: image_pb2.GetImageRequest, ctx: Context
    ) -> image_pb2.GetImageResponse:
        name = f"local/{Path(request.id.name).name}"
        return image_pb2.GetImageResponse(image={"id": request.id, "fqin": name})


class Services:
    """The services as ASGI applications, with the state that they share."""

    def __init__(self, clients: Clients, containers: Containers, tls: ssl.SSLContext) -> None:
        (work := clients.home / "work").mkdir()
        self.faults = Faults()
        self.storage = Storage(clients.home / "data")
        self.clusters = ClusterService(clients.mode)
        self.secrets = SecretService()
        union = clients.mode is Mode.UNION
        variables = clients.app_environment()
        self.apps = AppService(containers, self.secrets, work, variables, clients.url, tls)
        self.runs = Runs(recovers=union)
        self.executor = Executor(
            containers, self.secrets, work, clients.task_environment, keeps_pods=union
        )
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
            self.secrets,
        ]
        if union:
            services.append(ImageService())
        applications = [_application(service, interceptors=access) for service in services]
        # Clients without a token may read the OAuth metadata.
        applications.append(_application(AuthMetadataService(clients.url, clients.mode)))
        self.applications: dict[str, ASGIApp] = {one.path: one for one in applications}

    async def reset(self) -> None:
        self.faults.clear()
        await asyncio.gather(self.executor.close(), self.apps.clear())
        self.runs.clear()
        self.secrets.clear()


class LocalFlyte(Clients):
    """Local Flyte server for development and tests. Use the object as a context manager.

    The server listens on the loopback interface, with TLS and a new certificate authority. The
    server keeps state in memory and in the folder ``home``. Runs and apps are local processes.
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
        """Configure the server. Entering the context starts the server.

        Args:
            project: Name of the only project.
            domain: Domain in the configuration of clients.
            app_bin: Folder with the programs of the Python environment that replaces the image of
                tasks and apps (default: the current environment).
            credential_headers: Additional headers that may contain the ``api_key`` of a user.
            mode: Kind of Flyte to imitate.
        """
        self.project = project
        self.domain = domain
        self.people = Directory(PEOPLE.values(), credential_headers)
        self.mode = mode
        self._programs = app_bin or Path(sys.executable).parent

    def wait_app(self, name: str, seconds: float = 300) -> str:
        """Wait until the latest revision of a deployed app is active, and return the URL.

        Raise ConnectError if no app has this name. If the app exits, or is not active in time,
        raise RuntimeError with the output of the app.
        """
        id_ = app_definition_pb2.Identifier(project=self.project, domain=self.domain, name=name)
        app, deadline = self._services.apps.find(id_), time.monotonic() + seconds
        while app.status in {"PENDING", "DEPLOYING"} and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if app.status != "ACTIVE":
            raise RuntimeError(f"the app {name} is not active; its output:\n{''.join(app.log)}")
        return app.url

    # For tests

    def add_person(self, name: str, like: Person | None = None) -> Person:
        """Add a user who may view and run, with the display name of ``like`` if given."""
        user = person(name)
        if like:
            user = replace(user, given_name=like.given_name, family_name=like.family_name)
        self.people.add(user)
        return user

    @property
    def calls(self) -> list[ReceivedCall]:
        """All received calls, from the oldest to the newest."""
        return list(self._gateway.received)

    @contextlib.contextmanager
    def kept_messages(self) -> Iterator[None]:
        """Record the requests and responses of received calls inside the block."""
        before, self._gateway.keep_messages = self._gateway.keep_messages, True
        try:
            yield
        finally:
            self._gateway.keep_messages = before

    @contextlib.contextmanager
    def shared_executions(self) -> Iterator[None]:
        """Execute a task with the same inputs once inside the block, for all runs of it.

        The first run really executes. If it succeeds, further runs succeed at once with its
        outputs, also after the first run has been deleted.
        """
        executor = self._services.executor
        before, executor.shares = executor.shares, True
        try:
            yield
        finally:
            if not before:
                self._background.call(executor.stop_sharing)

    def clear_calls(self) -> None:
        self._gateway.received.clear()

    def reset(self) -> None:
        """Delete runs, apps, secrets, faults and received calls, but keep tasks and users."""
        self._background.run(self._services.reset())
        self.clear_calls()

    def open_calls(self, method_or_request_id: str) -> int:
        """Return the number of open calls, including streams, with this method or request id."""
        return self._background.call(lambda: self._gateway.open_calls[method_or_request_id])

    def fail_next(
        self, method: str, code: Code, times: int = 1, message: str = "for a test", after: int = 0
    ) -> None:
        """Make the next calls of a method fail. A stream fails after ``after`` messages."""
        error = ConnectError(code, message)
        self._background.call(lambda: self._services.faults.fail(method, error, times, after))

    @contextlib.contextmanager
    def hang(self, method: str, after: int = 0) -> Iterator[None]:
        """Delay the responses to a method until the block ends.

        A stream first sends ``after`` messages.

        ``execution.RECORDING`` delays the answers to conditions in the API, but not in tasks.
        """
        faults = self._services.faults
        self._background.call(lambda: faults.hold(method, after))
        try:
            yield
        finally:
            self._background.call(lambda: faults.release(method))

    @contextlib.contextmanager
    def lockstep(self, *names: str) -> Iterator[Callable[[str], None]]:
        """Hold the n-th call of each named user until all named users have made n calls.

        Yield a function. Pass a user's name to this function after the user's last call.
        """
        self._services.faults.lockstep = lockstep = Lockstep(names)
        try:
            yield lambda name: self._background.run(lockstep.leave(name))
        finally:
            self._services.faults.lockstep = Lockstep()

    @contextlib.contextmanager
    def cluster_at(self, endpoint: str) -> Iterator[None]:
        """Make SelectCluster return ``endpoint``, such as ``http://…``, inside the block."""
        self._services.clusters.endpoint = endpoint
        try:
            yield
        finally:
            self._services.clusters.endpoint = None

    def copy_run(self, run: str, name: str, owner: Person) -> str:
        """Store a copy of a run under another name, and return the name.

        The copy of a run that has not ended has no process. The copy succeeds when its condition is
        answered.
        """
        id_ = identifier_pb2.RunIdentifier(project=self.project, domain=self.domain, name=run)
        runs = self._services.runs
        self._background.call(lambda: runs.copy_run(runs.run(id_), name, owner))
        return name

    def delete_runs(self, owner: Person) -> list[str]:
        """Abort and delete all runs of a user, and return their names."""
        runs = self._services.runs

        def delete() -> list[str]:
            owned = [(key, run) for key, run in runs.items() if run.owner == owner]
            for key, run in owned:
                self._services.executor.discard(run)
                del runs[key]
            return [run.id.name for _, run in owned]

        return self._background.call(delete)

    def delete_pods(self) -> None:
        """Delete ended pods and their logs. A real Flyte deletes pods an hour after their end."""
        self._background.call(self._services.runs.delete_pods)

    # Start and stop

    def __enter__(self) -> Self:
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
            find = self.people.find if self.mode is Mode.UNION else claimed_identity
            self._gateway = Gateway(find, services.applications)
            self._background = background = Background()
            tls_file = None if self.mode is Mode.DEVBOX else certificate
            background.add(self._gateway, listener, tls_file)
            uploads = stack.enter_context(listen())
            services.storage.address = f"http://{HOST}:{uploads.getsockname()[1]}"
            background.add(services.storage, uploads)
            background.start()
            stack.callback(background.stop)
            stack.callback(lambda: background.run(services.reset(), STOP_SECONDS))
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()


def _application(service: object, **options: Any) -> Any:
    """Return the ASGI application of a service.

    The generated module that defines the base class of the service also defines the application.
    """
    stub = type(service).__bases__[0]
    application = getattr(sys.modules[stub.__module__], f"{stub.__name__}ASGIApplication")
    return application(service, **options)
