"""DataProxyService: inputs, outputs, uploads and logs; and a folder as the object store."""

import hashlib
import secrets
import time
from base64 import b32encode, b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2, phase_pb2, run_pb2
from flyteidl2.dataproxy import dataproxy_service_connect
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.task import common_pb2
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .access import Context, invalid
from .actions import Runs, now
from .projects import ProjectService
from .tasks import TaskService

AnyMessage = TypeVar("AnyMessage", bound=Message)

MAX_MESSAGE = 2 * 2**20
"""The most bytes of inputs or outputs that the control plane returns."""
MAX_UPLOAD = 100 * 2**20
MAX_SECONDS = 3600


@dataclass(frozen=True)
class _Upload:
    path: Path
    md5: bytes
    """The expected MD5 of the content, if it is not empty."""
    expires: float
    """On the monotonic clock."""

    def store(self, headers: Mapping[str, str], content: bytes) -> int:
        """Store the content, whose MD5 is signed; return the HTTP status of the answer."""
        signed = b64encode(self.md5).decode()
        if self.md5 and (_md5(content) != self.md5 or headers.get("content-md5") != signed):
            return 400
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)
        return 200


class Storage:
    """A folder in place of the object store of a Flyte cluster; an ASGI application for uploads.

    Uploads are plain HTTP PUTs to a URL that nobody can guess, as with signed URLs. They carry no
    credentials, so they need no TLS, for which every client would have to trust our authority.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._expected: dict[str, _Upload] = {}
        self.address = ""
        """The address for uploads, as ``http://host:port``."""

    def uploads(self, project: str, domain: str) -> Path:
        return self._folder / "uploads" / project / domain

    def run_base(self, run: identifier_pb2.RunIdentifier) -> str:
        """Return the path of the folder of a run's data."""
        return str(self._folder / "runs" / run.project / run.domain / run.name)

    def write(self, folder: Path, inputs: common_pb2.Inputs) -> str:
        """Store inputs in a folder, and return the folder's URI."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "inputs.pb").write_bytes(inputs.SerializeToString())
        return folder.as_uri()

    def read(self, uri: str, kind: type[AnyMessage]) -> AnyMessage | None:
        """Return the message stored at a URI, or None if there is none.

        Raises:
            ConnectError: INTERNAL, if it is larger than the control plane returns.
        """
        path = Path(unquote(urlsplit(uri).path))
        if not path.is_file():
            return None
        if (size := path.stat().st_size) > MAX_MESSAGE:
            raise ConnectError(
                Code.INTERNAL, f"limit exceeded. {size / 2**20:.6f}mb > {MAX_MESSAGE // 2**20}mb."
            )
        return kind.FromString(path.read_bytes())

    def expect(self, path: Path, md5: bytes, seconds: float) -> str:
        """Expect an upload; return the URL to PUT it to."""
        key = secrets.token_urlsafe()
        self._expected[f"/upload/{key}"] = _Upload(path, md5, time.monotonic() + seconds)
        return f"{self.address}/upload/{key}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a PUT to a signed URL. What is not expected is not read."""
        request = Request(scope, receive)
        upload = self._expected.get(request.url.path)
        if upload is None or time.monotonic() > upload.expires:
            status = 403
        else:
            status = upload.store(request.headers, await request.body())
        await Response(status_code=status)(scope, receive, send)


class DataProxyService(dataproxy_service_connect.DataProxyService):
    """Moves the data of runs in and out."""

    def __init__(
        self, runs: Runs, projects: ProjectService, tasks: TaskService, storage: Storage
    ) -> None:
        self._runs = runs
        self._projects = projects
        self._tasks = tasks
        self._storage = storage

    async def create_upload_location(
        self, request: pb.CreateUploadLocationRequest, ctx: Context
    ) -> pb.CreateUploadLocationResponse:
        self._projects.check(request.project)
        md5 = request.content_md5
        if not md5 and not request.filename_root:
            raise invalid("either filename_root or content_md5 must be given")
        seconds = request.expires_in.ToSeconds() if request.HasField("expires_in") else MAX_SECONDS
        if seconds > MAX_SECONDS or request.content_length > MAX_UPLOAD:
            raise invalid(f"an upload takes at most {MAX_SECONDS} s and {MAX_UPLOAD} bytes")
        root = request.filename_root or b32encode(md5).decode().rstrip("=")
        path = Path(root, request.filename or "upload")
        if path.is_absolute() or ".." in path.parts:
            raise invalid(f"invalid file name {request.filename!r}")
        file = self._storage.uploads(request.project, request.domain) / path
        chosen = request.filename_root and request.filename  # not a name made from the content
        if chosen and file.is_file() and _md5(file.read_bytes()) != md5:
            raise ConnectError(Code.ALREADY_EXISTS, f"{path} already exists with other content")
        answer = pb.CreateUploadLocationResponse(
            signed_url=self._storage.expect(file, md5, seconds),
            native_url=str(file),  # File.open() accepts no file:// URI
            headers={"Content-MD5": b64encode(md5).decode()} if md5 else {},
        )
        answer.expires_at.FromSeconds(now().seconds + seconds)
        return answer

    async def upload_inputs(
        self, request: pb.UploadInputsRequest, ctx: Context
    ) -> pb.UploadInputsResponse:
        """Store the inputs of a run that will be created next."""
        project, domain = request.project_id.name, request.project_id.domain
        if request.HasField("run_id"):
            project, domain = request.run_id.project, request.run_id.domain
        self._projects.check(project)
        if request.WhichOneof("task") is None:
            raise invalid("inputs need a task")
        if request.HasField("task_id"):
            self._tasks.get(request.task_id)
        hash_ = _fnv1a(request.inputs.SerializeToString(deterministic=True))
        folder = self._storage.uploads(project, domain) / "offloaded-inputs" / hash_
        uri = self._storage.write(folder, request.inputs)
        stored = run_pb2.OffloadedInputData(uri=uri, inputs_hash=hash_)
        return pb.UploadInputsResponse(offloaded_input_data=stored)

    async def get_action_data(
        self, request: pb.GetActionDataRequest, ctx: Context
    ) -> pb.GetActionDataResponse:
        """Return the inputs and, if the action has succeeded, the outputs."""
        action = self._runs.action(request.action_id)
        answer = pb.GetActionDataResponse(outputs=common_pb2.Outputs())
        if (inputs := self._storage.read(action.input_uri, common_pb2.Inputs)) is not None:
            answer.inputs.CopyFrom(inputs)
            answer.inputs_uri = action.input_uri
        uri = (action.outputs / "outputs.pb").as_uri()
        if (
            action.phase == phase_pb2.ACTION_PHASE_SUCCEEDED
            and (outputs := self._storage.read(uri, common_pb2.Outputs)) is not None
        ):
            answer.outputs.CopyFrom(outputs)
            answer.outputs_uri = uri
        return answer

    async def tail_logs(
        self, request: pb.TailLogsRequest, ctx: Context
    ) -> AsyncIterator[pb.TailLogsResponse]:
        """Send the log as it is written, until its pod ends."""
        action = self._runs.action(request.action_id)
        if request.attempt != 1 or not action.has_pod:
            raise ConnectError(
                Code.NOT_FOUND, f"there is no pod of {action.name}, attempt {request.attempt}"
            )
        log, sent = action.log, 0
        while True:
            if lines := log[sent:]:
                sent += len(lines)
                logs = pb.TailLogsResponse.Logs(lines=lines)
                yield pb.TailLogsResponse(logs=[logs])
            elif not action.running or action.log is not log:
                return
            else:
                await action.changed.wait()


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _fnv1a(content: bytes) -> str:
    """Return the 64-bit FNV-1a hash in Flyte's format."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return urlsafe_b64encode(value.to_bytes(8, "big")).decode().rstrip("=")
