"""The local Flyte as a whole."""

import contextlib
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2

from .apps import App
from .clients import Clients
from .door import Door, ReceivedCall, Uploads
from .modes import Mode
from .people import PEOPLE, Directory, Person, claimed, person
from .processes import Containers
from .same_user import SameUser
from .services import Services
from .serving import HOST, STOP_SECONDS, Background


class LocalFlyte:
    """A stand-in for a Flyte cluster, for development and tests. A context manager.

    It speaks TLS with an authority of its own on the loopback interface, tells people apart by
    their credentials, keeps everything in memory and in ``home``, and executes what is run or
    deployed as processes of this machine. It holds nothing after it stops.
    """

    def __init__(
        self,
        project: str = "flytesnacks",
        domain: str = "development",
        *,
        home: Path | None = None,
        port: int = 0,
        app_bin: Path | None = None,
        credential_headers: Iterable[str] = (),
        authorization: bool = True,
        plaintext: bool = False,
        proxied: bool = True,
        builds_images: bool = False,
    ) -> None:
        """Prepare; entering the context starts it.

        Args:
            project: The one project that the people have their rights on.
            domain: The domain that clients are told to use.
            home: Folder for keys, configuration and data; None for one that is removed at the end.
            port: Port for clients; 0 for one that the operating system chooses.
            app_bin: Folder with the programs (``a0``, ``fserve``, ``python``) of the Python
                environment that stands for the image of tasks and apps; None for the current one.
            credential_headers: Names of headers by which people are recognised too, when one holds
                their ``api_key``.
            authorization: Whether people have rights, and must prove who they are, as on Union;
                otherwise it is like the open-source Flyte behind an authenticating proxy.
            plaintext: Whether it is like the devbox of the open-source Flyte, without TLS.
            proxied: Whether a proxy is in front of the open-source Flyte. It lets in only who has
                a token that was given out here, and tells, by X-Forwarded-Proto, that it was
                called with TLS. Without, SelectCluster answers with an ``http://`` address.
            builds_images: Whether an image is known only once the SDK has had it built by the
                remote builder, which the open-source Flyte has not. Otherwise every image is
                taken for built, so that deploying needs neither ``uv`` nor a package index.
        """
        self.project = project
        self.domain = domain
        self._given_home = home
        self._given_port = port
        self._programs = app_bin or Path(sys.executable).parent
        self._people = Directory(PEOPLE.values(), credential_headers)
        self.mode = Mode.UNION if authorization else Mode.OPEN_SOURCE
        if plaintext:
            self.mode = Mode.DEVBOX
        self._builds_images = builds_images
        self._proxied = proxied and self.mode is Mode.OPEN_SOURCE

    # What clients need to know, once it is started

    home: Path
    """The folder of its keys, configuration and data."""
    endpoint: str
    """The address in the form in which Flyte is configured with it."""
    url: str
    """The address as a URL."""
    ca_file: Path
    """The certificate authority to trust, in PEM form."""

    def token(self, person: str) -> str:
        """Return what a person's ``Authorization: Bearer`` header holds."""
        return self._clients.token(person)

    def api_key(self, person: str) -> str:
        """Return an API key of Flyte's, in the form of ``FLYTE_API_KEY``, that acts as a person."""
        return self._clients.api_key(person)

    def config_file(self, person: str = "alice") -> Path:
        """Return a configuration for the ``flyte`` CLI and SDK that acts as this person."""
        return self._clients.config_file(person)

    def app_environment(self) -> dict[str, str]:
        """Return the variables that a Flyte cluster sets for an app, and the authority to trust."""
        return self._clients.app_environment()

    def deploy(
        self, root: Path, file: str = "deployment.py", env: str = "task_env", person: str = "alice"
    ) -> str:
        """Run ``flyte deploy`` in ``root`` as a person, and return what it printed.

        Raises:
            RuntimeError: With that output, if it failed.
        """
        return self._clients.deploy(root, file, env, person)

    def register(self, root: Path, person: str = "alice") -> dict[str, list[str]]:
        """Register, as a person, the tasks that ``deployment.py`` in ``root`` deploys with its app.

        Returns:
            ``tasks``, their names; the ``variables`` of their environments; and their ``files``.

        Raises:
            RuntimeError: With what was printed, if they can't be registered.
        """
        return self._clients.register(root, person)

    def wait_app(self, name: str, seconds: float = 60) -> str:
        """Wait until the latest revision of a deployed app is up, and return where it answers.

        Raises:
            ConnectError: NOT_FOUND, if there is no such app.
            RuntimeError: With what the app has printed, if it ends instead, or takes too long.
        """

        async def wait() -> str:
            app = self._app(name)
            await app.settle(seconds)
            if not app.active:
                log = "".join(line.message for line in app.log)
                raise RuntimeError(f"the app {name} is not up; it has printed:\n{log}")
            return app.url

        return self._background.run(wait())

    def _app(self, name: str) -> App:
        return self._services.apps.get(
            app_definition_pb2.Identifier(project=self.project, domain=self.domain, name=name)
        )

    # What tests need

    def add_person(self, name: str) -> Person:
        """Make someone known who may view and run."""
        someone = person(name)
        self._people.add(someone)
        return someone

    @property
    def calls(self) -> list[ReceivedCall]:
        """What has arrived so far, in order."""
        return list(self._door.received)

    def clear_calls(self) -> None:
        """Forget what has arrived."""
        self._door.received.clear()

    def reset(self) -> None:
        """Forget runs, apps, faults and received calls; tasks and people stay."""
        self._background.run(self._services.reset())
        self.clear_calls()

    def open_calls(self, method: str) -> int:
        """Count the calls of a method, streams above all, whose client still waits for more."""
        return self._background.call(lambda: self._door.open_calls[method])

    def fail_next(
        self, method: str, code: Code, times: int = 1, message: str = "a test wants it to fail"
    ) -> None:
        """Answer the next calls of a method, such as ``ListRuns``, with an error."""
        error = ConnectError(code, message)
        self._background.call(lambda: self._services.faults.fail(method, error, times))

    @contextlib.contextmanager
    def hang(self, method: str, after: int = 0) -> Iterator[None]:
        """Leave calls of a method unanswered inside the ``with`` block.

        Args:
            method: Such as ``WatchActionDetails``.
            after: How many messages a stream sends before it hangs.
        """
        faults = self._services.faults
        self._background.call(lambda: faults.hold(method, after))
        try:
            yield
        finally:
            self._background.call(lambda: faults.release(method))

    @contextlib.contextmanager
    def cluster_at(self, endpoint: str) -> Iterator[None]:
        """Answer SelectCluster with another address, such as ``http://...``, inside the block."""
        self._services.clusters.endpoint = endpoint
        try:
            yield
        finally:
            self._services.clusters.endpoint = None

    @contextlib.contextmanager
    def status_lag(self, seconds: float) -> Iterator[None]:
        """Let the status of actions that start inside the block follow what is reported late."""
        self._services.executor.status_lag = seconds
        try:
            yield
        finally:
            self._services.executor.status_lag = 0

    def remove_pods(self, run: str) -> None:
        """Remove what is left of a run that has ended, as a cluster does after a while.

        Its logs are gone then, and its name may run again.
        """
        self._background.call(lambda: self._services.remove_pods(run))

    # Life

    def __enter__(self) -> Self:
        """Start; return when clients can connect."""
        with contextlib.ExitStack() as stack:
            home = self._make_home(stack)
            background = Background()
            listener = stack.enter_context(socket.create_server((HOST, self._given_port)))
            port = listener.getsockname()[1]
            clients = Clients(home, port, self.project, self.domain, self._people, self.mode)
            authority = trustme.CA()
            authority.cert_pem.write_to_path(clients.ca_file)
            certificate = home / "server.pem"
            certificate.touch(mode=0o600)
            authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(certificate)
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            services = Services(
                clients,
                Containers(self._programs, home / "containers"),
                self._people if self._proxied else None,
                tls,
                builds_images=self._builds_images,
            )
            find = {Mode.UNION: self._people.find, Mode.OPEN_SOURCE: claimed}.get(self.mode)
            door = Door(
                find, services.applications, forwarded_proto=b"https" if self._proxied else None
            )
            asks_nobody = self.mode is not Mode.UNION and not self._proxied
            served = SameUser(door) if asks_nobody else door
            background.add(served, listener, None if self.mode is Mode.DEVBOX else certificate)
            uploads = stack.enter_context(socket.create_server((HOST, 0)))
            services.storage.address = f"http://{HOST}:{uploads.getsockname()[1]}"
            background.add(Uploads(services.storage), uploads)
            background.start()
            stack.callback(background.stop)
            stack.callback(lambda: background.run(services.close(), STOP_SECONDS))
            self._clients, self._services, self._door = clients, services, door
            self.home, self.endpoint = home, clients.endpoint
            self.url, self.ca_file = clients.url, clients.ca_file
            self._background = background
            self._running = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop: end every process, stream and connection."""
        self._running.close()

    def _make_home(self, stack: contextlib.ExitStack) -> Path:
        if self._given_home is None:
            temporary = tempfile.TemporaryDirectory(
                prefix="local-flyte-", ignore_cleanup_errors=True
            )
            return Path(stack.enter_context(temporary)).resolve()
        home = self._given_home.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in ("data", "work"):  # of an earlier one with the same home
            shutil.rmtree(home / leftover, ignore_errors=True)
        return home
