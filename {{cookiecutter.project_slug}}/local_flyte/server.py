"""The complete local Flyte."""

import contextlib
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import trustme
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_definition_pb2

from .clients import Clients
from .gateway import Gateway, ReceivedCall
from .people import PEOPLE, Directory, Mode, Person, claimed, person
from .processes import Containers
from .services import Services
from .serving import HOST, STOP_SECONDS, Background, listen


class LocalFlyte(Clients):
    """A stand-in for a Flyte cluster, for development and tests. A context manager.

    It listens on the loopback interface, with TLS and an authority of its own, identifies people by
    their credentials, stores everything in memory and in ``home``, and executes runs and apps as
    processes on this machine. It keeps nothing after it stops.
    """

    def __init__(
        self,
        project: str = "flytesnacks",
        domain: str = "development",
        *,
        app_bin: Path | None = None,
        credential_headers: Iterable[str] = (),
        authorization: bool = True,
        plaintext: bool = False,
        proxied: bool = True,
        builds_images: bool = False,
    ) -> None:
        """Configure it; entering the context starts it.

        Args:
            project: The only project, which people have rights on.
            domain: The domain in clients' configurations.
            app_bin: Folder with the programs (``a0``, ``fserve``, ``python``) of the Python
                environment that replaces the image of tasks and apps; None for the current one.
            credential_headers: Names of further headers that may contain a person's ``api_key``.
            authorization: Whether people are authenticated and have rights, as on Union; otherwise
                it acts like the open-source Flyte behind an authenticating proxy.
            plaintext: Whether it acts like the devbox of the open-source Flyte, without TLS.
            proxied: Whether a proxy is in front of the open-source Flyte. The proxy admits only
                tokens that were issued here, and sets X-Forwarded-Proto because it was called with
                TLS. Without it, SelectCluster returns an ``http://`` address.
            builds_images: Whether an image exists only after the remote builder, which the
                open-source Flyte does not have, has built it. Otherwise every image counts as
                built, so that deploying needs neither ``uv`` nor a package index.
        """
        self.project = project
        self.domain = domain
        self.people = Directory(PEOPLE.values(), credential_headers)
        self.mode = Mode.UNION if authorization else Mode.OPEN_SOURCE
        if plaintext:
            self.mode = Mode.DEVBOX
        self._programs = app_bin or Path(sys.executable).parent
        self._builds_images = builds_images
        self._proxied = proxied and self.mode is Mode.OPEN_SOURCE

    def wait_app(self, name: str, seconds: float = 300) -> str:
        """Wait until the latest revision of a deployed app is up, and return its address.

        Raises:
            ConnectError: NOT_FOUND, if there is no such app.
            RuntimeError: With the app's output, if it exits instead, or takes too long.
        """

        async def wait() -> str:
            id_ = app_definition_pb2.Identifier(project=self.project, domain=self.domain, name=name)
            app = self._services.apps.find(id_)
            if not await app.is_up(seconds):
                printed = "".join(app.log)
                raise RuntimeError(f"the app {name} is not up; it has printed:\n{printed}")
            return app.url

        return self._background.run(wait())

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
        self, method: str, code: Code, times: int = 1, message: str = "a test wants it to fail"
    ) -> None:
        """Make the next calls of a method, such as ``ListRuns``, fail with an error."""
        error = ConnectError(code, message)
        self._background.call(lambda: self._services.faults.fail(method, error, times))

    @contextlib.contextmanager
    def hang(self, method: str, after: int = 0) -> Iterator[None]:
        """Make calls of a method hang inside the ``with`` block.

        Args:
            method: Such as ``WatchActionDetails``.
            after: The number of messages that a stream sends before it hangs.
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

    @contextlib.contextmanager
    def unrecorded_answers(self) -> Iterator[None]:
        """Record answers to conditions only at the end of the block; tasks get them at once.

        Otherwise the record lags behind by ``conditions.RECORD_LAG_SECONDS``.
        """
        conditions = self._services.conditions
        self._background.call(conditions.hold)
        try:
            yield
        finally:
            self._background.call(conditions.release)

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
            certificate.touch(mode=0o600)
            authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(certificate)
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            self._services = services = Services(
                self,
                Containers(self._programs, self.home / "containers"),
                self.people if self._proxied else None,
                tls,
                builds_images=self._builds_images,
            )
            find = {Mode.UNION: self.people.find, Mode.OPEN_SOURCE: claimed}.get(self.mode)
            self._gateway = Gateway(find, services.applications, proxied=self._proxied)
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

    def __exit__(self, *exc_info: object) -> None:
        """Stop every process, stream and connection."""
        self._running.close()
