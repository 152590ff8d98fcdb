"""DataProxyService (inputs, outputs, uploads, logs), and a folder as the object store."""

import hashlib
import secrets
from base64 import b32encode, b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

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

from .access import Context, invalid, require
from .actions import SUCCESSFUL, Runs, now
from .tasks import ProjectService

AnyMessage = TypeVar("AnyMessage", bound=Message)

MAX_MESSAGE_BYTES = 2 * 2**20  # maximum size of inputs or outputs in a response
# Expiry of signed URLs, as the API returns it. This server accepts the URLs until it stops.
EXPIRY_SECONDS = 3600
UNQUOTED = "/$&+,:;=@!'()*[]"  # characters of a path that Go does not percent-encode
MAX_LOG_LINES = 1000  # maximum number of log lines in one message


class Storage:
    """A folder that replaces the object store, and an ASGI application that serves signed URLs.

    Signed URLs have no TLS, so that clients need not trust this server's certificate authority.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signed: dict[str, Path] = {}
        self.address = ""
        """Origin of signed URLs: ``http://host:port``."""

    def uploads(self, project: str, domain: str) -> Path:
        return self._folder / "uploads" / project / domain

    def run_base(self, run: identifier_pb2.RunIdentifier) -> str:
        return str(self._folder / "runs" / run.project / run.domain / run.name)

    def write(self, folder: Path, inputs: common_pb2.Inputs) -> str:
        """Store inputs in a folder, and return the URI of the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "inputs.pb").write_bytes(inputs.SerializeToString())
        return folder.as_uri()

    def read(self, uri: str, kind: type[AnyMessage]) -> AnyMessage | None:
        """Return the message stored at a URI, or None if the file is missing."""
        path = Path(unquote(urlsplit(uri).path))
        if not path.is_file():
            return None
        if (size := path.stat().st_size) > MAX_MESSAGE_BYTES:
            message = f"limit exceeded. {size / 2**20:.6f}mb > {MAX_MESSAGE_BYTES // 2**20}mb."
            raise ConnectError(Code.INTERNAL, message)
        return kind.FromString(path.read_bytes())

    def sign(self, method: str, path: Path) -> str:
        """Return a signed URL. If ``method`` is GET and the file is missing, raise NOT_FOUND."""
        if method == "GET" and not path.is_file():
            raise ConnectError(Code.NOT_FOUND, f"there is no {path.name}")
        key = secrets.token_urlsafe()
        self._signed[f"{method} /{key}"] = path
        return f"{self.address}/{key}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a signed URL. For any other URL, send 403 without reading the request body."""
        request, response = Request(scope, receive), Response()
        if (path := self._signed.get(f"{request.method} {request.url.path}")) is None:
            response.status_code = 403
        elif request.method == "GET":
            # A real object store has a separate origin. This object store shares the app's host.
            sandbox = {"Content-Security-Policy": "sandbox allow-scripts"}
            response = FileResponse(path, media_type="text/html", headers=sandbox)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(await request.body())
        await response(scope, receive, send)


@dataclass(eq=False)
class DataProxyService(dataproxy_service_connect.DataProxyService):
    """Uploads and downloads the data of runs."""

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
        folder = self._storage.uploads(request.project, request.domain)
        response = pb.CreateUploadLocationResponse(
            signed_url=self._storage.sign("PUT", folder / path),
            # The real Flyte also encodes the path here, but not the name of the stored object.
            # The URI has no file:// scheme, because File.open() rejects such URIs.
            native_url=f"{folder}/{quote(str(path), safe=UNQUOTED)}",
            headers={"Content-MD5": b64encode(md5).decode()} if md5 else {},
        )
        response.expires_at.FromSeconds(now().seconds + EXPIRY_SECONDS)
        return response

    async def create_download_link(
        self, request: pb.CreateDownloadLinkRequest, ctx: Context
    ) -> pb.CreateDownloadLinkResponse:
        """Return a signed URL for the report of an attempt."""
        if request.artifact_type != pb.ARTIFACT_TYPE_REPORT:
            raise invalid("artifact_type is required")
        id_ = request.action_attempt_id
        action, number = self._runs.action(id_.action_id), id_.attempt or 1  # 0 means the first
        report = Path(action.output_base, action.name, str(number), "report.html")
        urls = pb.PreSignedURLs(signed_url=[self._storage.sign("GET", report)])
        urls.expires_at.FromSeconds(now().seconds + EXPIRY_SECONDS)
        return pb.CreateDownloadLinkResponse(pre_signed_urls=urls)

    async def upload_inputs(
        self, request: pb.UploadInputsRequest, ctx: Context
    ) -> pb.UploadInputsResponse:
        """Store inputs before the run that will use them is created."""
        project, domain = request.project_id.name, request.project_id.domain
        if request.HasField("run_id"):
            project, domain = request.run_id.project, request.run_id.domain
        self._projects.check(project)
        content = request.inputs.SerializeToString(deterministic=True)
        hash_ = urlsafe_b64encode(hashlib.sha256(content).digest()[:8]).decode().rstrip("=")
        folder = self._storage.uploads(project, domain) / "offloaded-inputs" / hash_
        uri = self._storage.write(folder, request.inputs)
        offloaded = run_pb2.OffloadedInputData(uri=uri, inputs_hash=hash_)
        return pb.UploadInputsResponse(offloaded_input_data=offloaded)

    async def get_action_data(
        self, request: pb.GetActionDataRequest, ctx: Context
    ) -> pb.GetActionDataResponse:
        """Return the inputs and, after success, the outputs."""
        action = self._runs.action(request.action_id)
        response = pb.GetActionDataResponse(outputs=common_pb2.Outputs())
        if (inputs := self._storage.read(action.input_uri, common_pb2.Inputs)) is not None:
            response.inputs.CopyFrom(inputs)
            response.inputs_uri = action.input_uri
        file = Path(action.output_uri)
        uri = (file if file.suffix == ".pb" else file / "outputs.pb").as_uri()
        outputs = (
            self._storage.read(uri, common_pb2.Outputs) if action.phase in SUCCESSFUL else None
        )
        if outputs is not None:
            response.outputs.CopyFrom(outputs)
            response.outputs_uri = uri
        return response

    async def tail_logs(
        self, request: pb.TailLogsRequest, ctx: Context
    ) -> AsyncIterator[pb.TailLogsResponse]:
        """Stream the log of an attempt until the pod ends."""
        action, sent_count = self._runs.action(request.action_id), 0
        pod = action.pods.get(request.attempt)
        pod = require(pod, f"pod of {action.name}, attempt {request.attempt}")
        while True:
            if lines := pod.log[sent_count : sent_count + MAX_LOG_LINES]:
                sent_count += len(lines)
                logs = pb.TailLogsResponse.Logs(lines=lines)
                yield pb.TailLogsResponse(logs=[logs])
            elif not pod.running:
                return
            else:
                await action.changed.wait()
