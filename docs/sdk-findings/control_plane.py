"""A small control plane, with or without TLS, that records the received calls."""

import asyncio
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import uvicorn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.auth import identity_connect, identity_pb2
from flyteidl2.cluster import payload_pb2 as cluster_pb2
from flyteidl2.cluster import service_connect as cluster_connect
from flyteidl2.common import identifier_pb2, phase_pb2
from flyteidl2.common import run_pb2 as common_run_pb2
from flyteidl2.core.interface_pb2 import TypedInterface, Variable
from flyteidl2.core.literals_pb2 import Literal
from flyteidl2.core.types_pb2 import LiteralType
from flyteidl2.dataproxy import dataproxy_service_connect, dataproxy_service_pb2
from flyteidl2.imagebuilder import definition_pb2 as image_pb2
from flyteidl2.imagebuilder import payload_pb2 as image_payload_pb2
from flyteidl2.imagebuilder import service_connect as image_connect
from flyteidl2.logs.dataplane.payload_pb2 import LogLine
from flyteidl2.task import common_pb2, task_definition_pb2, task_service_connect, task_service_pb2
from flyteidl2.task.common_pb2 import NamedLiteral
from flyteidl2.workflow import run_definition_pb2, run_service_connect, run_service_pb2
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

RUN = identifier_pb2.RunIdentifier(org="o", project="p", domain="d", name="r")
ACTION = identifier_pb2.ActionIdentifier(run=RUN, name="a0")
TASK = task_definition_pb2.TaskIdentifier(org="o", project="p", domain="d", name="t", version="v")


@dataclass
class ControlPlane:
    """Received calls, and settings for the behaviour of the control plane."""

    endpoint: str = ""
    calls: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """The method and the headers of each call, in order."""
    messages: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """The requests by method."""
    cluster_endpoint: str = ""
    """The answer of SelectCluster."""
    redirect_to: str = ""
    """The target of a redirect for every call, if any."""
    failures: dict[str, list[ConnectError]] = field(default_factory=lambda: defaultdict(list))
    """The errors of the next calls of a method; they are raised after the call's work is done."""
    subject: str = "someone"
    log: list[str] = field(default_factory=list)
    inputs: common_pb2.Inputs = field(default_factory=common_pb2.Inputs)
    interface: TypedInterface = field(default_factory=TypedInterface)
    answers: threading.Event = field(default_factory=threading.Event)
    """Cleared while UserInfo, watches and logs hang."""

    def count(self, method: str) -> int:
        """Return the number of calls of a method."""
        return [name for name, _ in self.calls].count(method)

    def received(self, method: str, header: str) -> list[str | None]:
        """Return the values of a header in the calls of a method."""
        return [headers.get(header) for name, headers in self.calls if name == method]

    def store(self, kind: LiteralType, literal: Literal) -> None:
        """Store a run ``r`` with this input."""
        self.interface.ClearField("inputs")
        self.interface.inputs.variables.add(key="x", value=Variable(type=kind))
        self.inputs = common_pb2.Inputs(literals=[NamedLiteral(name="x", value=literal)])

    async def hang(self) -> None:
        """Wait while responses are held back."""
        while not self.answers.is_set():
            await asyncio.sleep(0.02)

    def fail(self, method: str) -> None:
        """Raise the next failure of a method, if there is one."""
        if self.failures[method]:
            raise self.failures[method].pop(0)


class _Services(
    identity_connect.IdentityService,
    cluster_connect.ClusterService,
    image_connect.ImageService,
    dataproxy_service_connect.DataProxyService,
    task_service_connect.TaskService,
    run_service_connect.RunService,
):
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def user_info(self, request: Any, ctx: Any) -> Any:
        await self._plane.hang()
        return identity_pb2.UserInfoResponse(subject=self._plane.subject)

    async def select_cluster(self, request: Any, ctx: Any) -> Any:
        return cluster_pb2.SelectClusterResponse(cluster_endpoint=self._plane.cluster_endpoint)

    async def get_image(self, request: Any, ctx: Any) -> Any:
        return image_payload_pb2.GetImageResponse(image=image_pb2.Image(fqin="registry/image:1"))

    async def upload_inputs(self, request: Any, ctx: Any) -> Any:
        data = common_run_pb2.OffloadedInputData(uri="memory://inputs", inputs_hash="0")
        return dataproxy_service_pb2.UploadInputsResponse(offloaded_input_data=data)

    async def get_action_data(self, request: Any, ctx: Any) -> Any:
        return dataproxy_service_pb2.GetActionDataResponse(inputs=self._plane.inputs)

    async def create_upload_location(self, request: Any, ctx: Any) -> Any:
        self._plane.messages["CreateUploadLocation"].append(request)
        raise ConnectError(Code.UNIMPLEMENTED, "it takes no files")

    async def tail_logs(self, request: Any, ctx: Any) -> AsyncIterator[Any]:
        lines = [LogLine(message=line) for line in self._plane.log]
        logs = dataproxy_service_pb2.TailLogsResponse.Logs(lines=lines)
        yield dataproxy_service_pb2.TailLogsResponse(logs=[logs])
        self._plane.fail("TailLogs")
        await self._plane.hang()

    async def list_tasks(self, request: Any, ctx: Any) -> Any:
        return task_service_pb2.ListTasksResponse(tasks=[task_definition_pb2.Task(task_id=TASK)])

    async def get_task_details(self, request: Any, ctx: Any) -> Any:
        details = task_definition_pb2.TaskDetails(task_id=TASK)
        details.spec.task_template.type = "python"
        details.spec.task_template.interface.CopyFrom(self._plane.interface)
        return task_service_pb2.GetTaskDetailsResponse(details=details)

    def _details(self) -> run_definition_pb2.ActionDetails:
        details = run_definition_pb2.ActionDetails(id=ACTION)
        details.status.phase = phase_pb2.ACTION_PHASE_RUNNING
        details.task.task_template.interface.CopyFrom(self._plane.interface)
        return details

    async def get_run_details(self, request: Any, ctx: Any) -> Any:
        details = run_definition_pb2.RunDetails(action=self._details())
        return run_service_pb2.GetRunDetailsResponse(details=details)

    async def get_action_details(self, request: Any, ctx: Any) -> Any:
        return run_service_pb2.GetActionDetailsResponse(details=self._details())

    async def list_runs(self, request: Any, ctx: Any) -> Any:
        self._plane.messages["ListRuns"].append(request)
        return run_service_pb2.ListRunsResponse()

    async def abort_run(self, request: Any, ctx: Any) -> Any:
        self._plane.fail("AbortRun")
        return run_service_pb2.AbortRunResponse()

    async def create_run(self, request: Any, ctx: Any) -> Any:
        self._plane.fail("CreateRun")
        action = run_definition_pb2.Action(id=ACTION)
        action.status.phase = phase_pb2.ACTION_PHASE_QUEUED
        return run_service_pb2.CreateRunResponse(run=run_definition_pb2.Run(action=action))

    async def watch_action_details(self, request: Any, ctx: Any) -> AsyncIterator[Any]:
        self._plane.fail("WatchActionDetails")
        await self._plane.hang()
        while True:  # a long run: repeat the state, so that the server notices when a client leaves
            yield run_service_pb2.WatchActionDetailsResponse(details=self._details())
            await asyncio.sleep(0.05)


def _application(plane: ControlPlane) -> ASGIApp:
    services = _Services(plane)
    served: list[Any] = [
        identity_connect.IdentityServiceASGIApplication(services),
        cluster_connect.ClusterServiceASGIApplication(services),
        dataproxy_service_connect.DataProxyServiceASGIApplication(services),
        image_connect.ImageServiceASGIApplication(services),
        task_service_connect.TaskServiceASGIApplication(services),
        run_service_connect.RunServiceASGIApplication(services),
    ]
    by_path: dict[str, Any] = {service.path: service for service in served}

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        service, _, method = scope["path"].rpartition("/")
        plane.calls.append((method, dict(Headers(scope=scope))))
        if plane.redirect_to:
            await RedirectResponse(plane.redirect_to + scope["path"])(scope, receive, send)
        else:
            await by_path[service](scope, receive, send)

    return answer


@contextmanager
def serving(folder: Path, *, tls: bool) -> Iterator[ControlPlane]:
    """Serve a control plane until the block ends; with TLS, clients must trust ``ca.pem``."""
    plane = ControlPlane()
    plane.answers.set()
    options: dict[str, Any] = {"lifespan": "off", "log_level": "error"}
    if tls:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        certificate.write_to_path(options.setdefault("ssl_certfile", folder / "server.pem"))
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    plane.endpoint = f"dns:///{address}" if tls else f"http://{address}"
    config = uvicorn.Config(_application(plane), timeout_graceful_shutdown=1, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
    thread.start()
    try:
        yield plane
    finally:
        plane.answers.set()
        server.should_exit = True
        thread.join()
