"""DataProxyService: inputs, outputs, uploads and logs; and a folder as the object store."""

import hashlib
import secrets
from base64 import b32encode, b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2, run_pb2
from flyteidl2.dataproxy import dataproxy_service_connect
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.task import common_pb2
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from .access import Context, found, invalid
from .actions import SUCCESSFUL, Runs, now
from .tasks import ProjectService

AnyMessage = TypeVar("AnyMessage", bound=Message)

MAX_MESSAGE = 2 * 2**20  # the most bytes of inputs or outputs that the control plane returns
EXPIRY_SECONDS = 3600  # which signed addresses tell; here they expire with their Flyte
LINES = 1000  # the most lines of a log in one message


class Storage:
    """A folder in place of a Flyte cluster's object store; an ASGI application for signed URLs.

    They carry no credentials, so they need no TLS, for which clients would have to trust us.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signed: dict[str, Path] = {}
        self.address = ""
        """The address of signed URLs, as ``http://host:port``."""

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
        """Return the message stored at a URI, or None if there is none."""
        path = Path(unquote(urlsplit(uri).path))
        if not path.is_file():
            return None
        if (size := path.stat().st_size) > MAX_MESSAGE:
            message = f"limit exceeded. {size / 2**20:.6f}mb > {MAX_MESSAGE // 2**20}mb."
            raise ConnectError(Code.INTERNAL, message)
        return kind.FromString(path.read_bytes())

    def sign(self, method: str, path: Path) -> str:
        """Return a URL that takes a PUT of this file or, with GET, returns it."""
        key = secrets.token_urlsafe()
        self._signed[f"{method} /{key}"] = path
        return f"{self.address}/{key}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call of a signed URL. What is not signed is not read."""
        request = Request(scope, receive)
        answer = Response()
        if (path := self._signed.get(f"{request.method} {request.url.path}")) is None:
            answer.status_code = 403
        elif request.method == "GET":
            # A real object store has an origin of its own; this is that of the app, but for a port.
            sandbox = {"Content-Security-Policy": "sandbox allow-scripts"}
            answer = FileResponse(path, media_type="text/html", headers=sandbox)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(await request.body())
        await answer(scope, receive, send)


@dataclass(eq=False)
class DataProxyService(dataproxy_service_connect.DataProxyService):
    """Moves the data of runs in and out."""

    _runs: Runs
    _projects: ProjectService
    _storage: Storage

    async def create_upload_location(
        self, request: pb.CreateUploadLocationRequest, ctx: Context
    ) -> pb.CreateUploadLocationResponse:
        self._projects.check(request.project)
        md5 = request.content_md5
        if not md5 and not request.filename_root:
            raise invalid("either filename_root or content_md5 must be given")
        root = request.filename_root or b32encode(md5).decode().rstrip("=")
        path = Path(root, request.filename or "upload")
        if path.is_absolute() or ".." in path.parts:
            raise invalid(f"invalid file name {request.filename!r}")
        file = self._storage.uploads(request.project, request.domain) / path
        answer = pb.CreateUploadLocationResponse(
            signed_url=self._storage.sign("PUT", file),
            native_url=str(file),  # File.open() accepts no file:// URI
            headers={"Content-MD5": b64encode(md5).decode()} if md5 else {},
        )
        answer.expires_at.FromSeconds(now().seconds + EXPIRY_SECONDS)
        return answer

    async def create_download_link(
        self, request: pb.CreateDownloadLinkRequest, ctx: Context
    ) -> pb.CreateDownloadLinkResponse:
        """Sign the URL of an attempt's report."""
        if request.artifact_type != pb.ARTIFACT_TYPE_REPORT:
            raise invalid("artifact_type is required")
        wanted = request.action_attempt_id
        number = wanted.attempt or 1  # 0 is the first one, too
        attempts = self._runs.action(wanted.action_id).details.attempts
        files = [Path(made.outputs.report_uri) for made in attempts if made.attempt == number]
        if not any(file.is_file() for file in files):
            raise ConnectError(Code.NOT_FOUND, f"attempt {number} has no report")
        urls = pb.PreSignedURLs(signed_url=[self._storage.sign("GET", files[0])])
        urls.expires_at.FromSeconds(now().seconds + EXPIRY_SECONDS)
        return pb.CreateDownloadLinkResponse(pre_signed_urls=urls)

    async def upload_inputs(
        self, request: pb.UploadInputsRequest, ctx: Context
    ) -> pb.UploadInputsResponse:
        """Store the inputs of a run that will be created next."""
        project, domain = request.project_id.name, request.project_id.domain
        if request.HasField("run_id"):
            project, domain = request.run_id.project, request.run_id.domain
        self._projects.check(project)
        content = request.inputs.SerializeToString(deterministic=True)
        hash_ = urlsafe_b64encode(hashlib.sha256(content).digest()[:8]).decode().rstrip("=")
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
        file = Path(action.output_uri)
        uri = (file if file.suffix == ".pb" else file / "outputs.pb").as_uri()
        if (
            action.phase in SUCCESSFUL
            and (outputs := self._storage.read(uri, common_pb2.Outputs)) is not None
        ):
            answer.outputs.CopyFrom(outputs)
            answer.outputs_uri = uri
        return answer

    async def tail_logs(
        self, request: pb.TailLogsRequest, ctx: Context
    ) -> AsyncIterator[pb.TailLogsResponse]:
        """Send the log of an attempt as it is written, until its pod ends."""
        action, sent = self._runs.action(request.action_id), 0
        pod = action.pods.get(request.attempt)
        pod = found(pod, f"pod of {action.name}, attempt {request.attempt}")
        while True:
            if lines := pod.log[sent : sent + LINES]:
                sent += len(lines)
                logs = pb.TailLogsResponse.Logs(lines=lines)
                yield pb.TailLogsResponse(logs=[logs])
            elif not pod.running:
                return
            else:
                await action.changed.wait()
