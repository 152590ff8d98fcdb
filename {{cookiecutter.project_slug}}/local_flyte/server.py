"""The local Flyte as a whole: one server, in a thread of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import trustme
import uvicorn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.server import ConnectASGIApplication
from flyteidl2.app import app_definition_pb2
from flyteidl2.app.app_logs_service_connect import AppLogsServiceASGIApplication
from flyteidl2.app.app_service_connect import AppServiceASGIApplication
from flyteidl2.auth.identity_connect import IdentityServiceASGIApplication
from flyteidl2.cluster.service_connect import ClusterServiceASGIApplication
from flyteidl2.common import identity_pb2
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyServiceASGIApplication
from flyteidl2.imagebuilder.service_connect import ImageServiceASGIApplication
from flyteidl2.project.project_service_connect import ProjectServiceASGIApplication
from flyteidl2.task.task_service_connect import TaskServiceASGIApplication
from flyteidl2.workflow.queue_service_connect import QueueServiceASGIApplication
from flyteidl2.workflow.run_service_connect import RunServiceASGIApplication
from flyteidl2.workflow.state_service_connect import StateServiceASGIApplication
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .access import Access, Faults, set_caller, unimplemented
from .actions import Runs
from .apps import App, AppLogsService, Apps, AppService
from .clusters import ClusterService
from .data import DataProxyService, Storage
from .execution import Executor
from .identity import IdentityService
from .images import ImageService
from .open_calls import OpenCalls
from .people import PEOPLE, Directory, Person, person
from .processes import Containers
from .projects import ProjectService
from .runs import RunService
from .subtasks import QueueService, StateService
from .tasks import TaskService

Result = TypeVar("Result")

HOST = "127.0.0.1"  # not "localhost": the SDK takes that for a server without TLS
START_SECONDS = 30
STOP_SECONDS = 10


@dataclass(frozen=True)
class ReceivedCall:
    """A call as it arrived, admitted or not."""

    service: str
    """Full name, such as ``flyteidl2.auth.IdentityService``."""
    method: str
    headers: Mapping[str, str] = field(repr=False)
    """By lower-cased name; credentials included, hence not in ``repr``."""
    person: Person | None
    """Who the credentials say it is; None if they say nothing."""


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
        """
        self.project = project
        self.domain = domain
        self._given_home = home
        self._port = port
        self._programs = app_bin or Path(sys.executable).parent
        self._calls: list[ReceivedCall] = []
        self._people = Directory(PEOPLE.values(), credential_headers)
        self._faults = Faults()
        self._open_calls = OpenCalls()
        self._clusters = ClusterService()
        self._ready = threading.Event()

    # What clients need to know

    @property
    def endpoint(self) -> str:
        """The address in the form in which Flyte is configured with it."""
        return f"dns:///{HOST}:{self._port}"

    @property
    def ca_file(self) -> Path:
        """The certificate authority to trust, in PEM form."""
        return self.home / "ca.pem"

    def config_file(self, person: str = "alice") -> Path:
        """Return a configuration for the ``flyte`` CLI and SDK that acts as this person."""
        path = self.home / f"{person}.yaml"
        settings = {
            "admin": {
                "endpoint": self.endpoint,
                "authType": "ExternalCommand",
                "command": ["echo", self._people[person].token],
                "caCertFilePath": str(self.ca_file),
            },
            "image": {"builder": "remote"},
            "task": {"org": "local", "project": self.project, "domain": self.domain},
        }
        # JSON is YAML, and quotes what needs quoting. Someone may be reading an earlier copy.
        partial = path.with_suffix(f".{threading.get_ident()}")
        partial.write_text("".join(f"{key}: {json.dumps(settings[key])}\n" for key in settings))
        return partial.replace(path)

    def app_environment(self) -> dict[str, str]:
        """Return the variables that a Flyte cluster sets for an app, and the authority to trust."""
        return {
            "_U_EP_OVERRIDE": self.endpoint,
            "_U_ORG_NAME": "local",
            "FLYTE_INTERNAL_EXECUTION_PROJECT": self.project,
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": self.domain,
            "SSL_CERT_FILE": str(self.ca_file),
        }

    def add_person(self, name: str) -> Person:
        """Make someone known who may view and run."""
        someone = person(name)
        self._people.add(someone)
        return someone

    # What tests need

    @property
    def calls(self) -> list[ReceivedCall]:
        """What has arrived so far, in order."""
        return list(self._calls)

    def clear_calls(self) -> None:
        """Forget what has arrived."""
        self._calls.clear()

    def open_calls(self, method: str) -> int:
        """Count the calls of a method, streams above all, whose client still waits for more."""
        return self._in_loop(lambda: self._open_calls[method])

    def fail_next(
        self, method: str, code: Code, times: int = 1, message: str = "a test wants it to fail"
    ) -> None:
        """Answer the next calls of a method, such as ``ListRuns``, with an error."""
        error = ConnectError(code, message)
        self._in_loop(lambda: self._faults.fail(method, error, times))

    @contextlib.contextmanager
    def hang(self, method: str, after: int = 0) -> Iterator[None]:
        """Leave calls of a method unanswered inside the ``with`` block.

        Args:
            method: Such as ``WatchActionDetails``.
            after: How many messages a stream sends before it hangs.
        """
        self._in_loop(lambda: self._faults.hold(method, after))
        try:
            yield
        finally:
            self._in_loop(lambda: self._faults.release(method))

    @contextlib.contextmanager
    def cluster_at(self, endpoint: str) -> Iterator[None]:
        """Answer SelectCluster with another address, such as ``http://...``, inside the block."""
        self._clusters.endpoint = endpoint
        try:
            yield
        finally:
            self._clusters.endpoint = None

    def deploy(
        self, root: Path, file: str = "deployment.py", env: str = "task_env", person: str = "alice"
    ) -> str:
        """Run ``flyte deploy`` in ``root`` as a person, and return what it printed.

        Raises:
            RuntimeError: With that output, if it failed.
        """
        result = subprocess.run(
            [
                Path(sys.executable).with_name("flyte"),
                *("--config", self.config_file(person)),
                *("deploy", file, env),
            ],
            cwd=root,
            # A home of its own, as the SDK remembers there what it has uploaded to an endpoint:
            # a port that had belonged to an earlier local Flyte would mislead it.
            env={**os.environ, "HOME": str(self.home), "TERM": "dumb", "DO_NOT_TRACK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(f"flyte deploy {file} {env} failed:\n{result.stdout}")
        return result.stdout

    def app_url(self, name: str) -> str:
        """Return where a deployed app answers, whether or not it is up.

        Raises:
            ConnectError: NOT_FOUND, if there is no such app.
        """
        return self._in_loop(lambda: self._app(name).url)

    def wait_app(self, name: str, seconds: float = 60) -> str:
        """Wait until the latest revision of a deployed app is up, and return where it answers.

        Raises:
            RuntimeError: With what the app has printed, if it ends instead, or takes too long.
        """

        async def wait() -> tuple[bool, str]:
            app = self._app(name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not app.settled:
                        await app.changed.wait()
            return app.active, "".join(line.message for line in app.log)

        active, log = asyncio.run_coroutine_threadsafe(wait(), self._loop).result()
        if not active:
            raise RuntimeError(f"the app {name} is not up; it has printed:\n{log}")
        return self.app_url(name)

    def _app(self, name: str) -> App:
        return self._apps.get(
            app_definition_pb2.Identifier(project=self.project, domain=self.domain, name=name)
        )

    # Life

    def __enter__(self) -> Self:
        """Start; return when clients can connect."""
        self.home = Path(
            tempfile.mkdtemp(prefix="local-flyte-")
            if self._given_home is None
            else self._given_home
        ).resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        for leftover in (self._data, self._work):  # of an earlier one with the same home
            shutil.rmtree(leftover, ignore_errors=True)
        self._key_file = self._make_certificate()
        self._listener = socket.create_server((HOST, self._port))
        self._port = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="local-flyte", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise RuntimeError("the local Flyte did not start")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop: end every process, stream and connection."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the local Flyte does not stop")
        if self._given_home is None:
            shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _work(self) -> Path:
        return self.home / "work"

    def _make_certificate(self) -> Path:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        path = self.home / "server.pem"
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def _in_loop(self, function: Callable[[], Result]) -> Result:
        async def call() -> Result:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._storage = Storage(self._data)
        runs, tasks = Runs(), TaskService()
        containers = Containers(self._programs, self.home / "containers")
        executor = Executor(containers, self._work, self._task_environment)
        self._apps = Apps(containers, self._work, self.app_environment())
        access = [Access(self._faults)]
        services: list[ConnectASGIApplication[Any]] = [
            IdentityServiceASGIApplication(IdentityService(), interceptors=access),
            ClusterServiceASGIApplication(self._clusters, interceptors=access),
            ProjectServiceASGIApplication(
                ProjectService(self.project, self.domain), interceptors=access
            ),
            TaskServiceASGIApplication(tasks, interceptors=access),
            RunServiceASGIApplication(
                RunService(runs, tasks, self._storage, executor), interceptors=access
            ),
            DataProxyServiceASGIApplication(
                DataProxyService(runs, self._storage), interceptors=access
            ),
            QueueServiceASGIApplication(QueueService(runs, executor), interceptors=access),
            ImageServiceASGIApplication(ImageService(), interceptors=access),
            AppServiceASGIApplication(AppService(self._apps), interceptors=access),
            AppLogsServiceASGIApplication(AppLogsService(self._apps), interceptors=access),
            StateServiceASGIApplication(StateService(runs), interceptors=access),
        ]
        self._services = {each.path: each for each in services}
        store = socket.create_server((HOST, 0))
        self._storage.address = f"http://{HOST}:{store.getsockname()[1]}"
        servers = [
            _server(self._answer, ssl_certfile=self._key_file),
            _server(self._answer_upload),
        ]
        serving = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, listener in zip(servers, (self._listener, store), strict=True)
        ]
        self._ready.set()
        await self._stopping.wait()
        self._faults.release()
        for run in runs:
            executor.abort(run, run.root, identity_pb2.EnrichedIdentity(), "Flyte stops")
        await asyncio.gather(executor.close(), self._apps.close())
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
        # Clients that keep their connections never answer TLS's goodbye.
        for server in servers:
            for connection in server.server_state.connections:
                connection.transport.abort()
        await asyncio.sleep(0)

    def _task_environment(self, owner: Person) -> dict[str, str]:
        # A task calls Flyte as the owner of its run. Every SDK we support reads its credentials
        # from a mounted file; from variables (FLYTE_AUTH_TYPE) only the newer ones do.
        return {"UCTL_CONFIG": str(self.config_file(owner.name))}

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call: record it, and hand it to its service."""
        # The stubs want the header's order; we want one value per name (RFC 9110, 5.3).
        headers: dict[str, str] = {}
        for name, value in Headers(scope=scope).items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        someone = self._people.find(headers)
        service, _, method = scope["path"].lstrip("/").rpartition("/")
        self._calls.append(ReceivedCall(service, method, headers, someone))
        set_caller(someone)
        if (application := self._services.get(f"/{service}")) is not None:
            await self._open_calls.answer(method, application, scope, receive, send)
        else:
            await _refuse(unimplemented(service, method), headers)(scope, receive, send)

    async def _answer_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a PUT to a signed URL."""
        request = Request(scope, receive)
        content_md5 = request.headers.get("content-md5", "")
        status = self._storage.put(request.url.path, content_md5, await request.body())
        await Response(status_code=status)(scope, receive, send)


def _server(application: Callable[[Scope, Receive, Send], Any], **options: Any) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            application,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            timeout_keep_alive=60,  # longer than clients keep theirs, or they run into our closing
            timeout_graceful_shutdown=1,
            **options,
        )
    )


def _refuse(error: ConnectError, headers: Mapping[str, str]) -> Response:
    """Put an error into the form that the Connect protocol has for the kind of call."""
    body = {"code": error.code.value, "message": error.message}
    if not headers.get("content-type", "").startswith("application/connect+"):
        return Response(json.dumps(body), 501, media_type="application/json")
    end = json.dumps({"error": body}).encode()
    envelope = b"\x02" + len(end).to_bytes(4, "big") + end  # flag 2: end of the stream
    return Response(envelope, media_type=headers["content-type"])
