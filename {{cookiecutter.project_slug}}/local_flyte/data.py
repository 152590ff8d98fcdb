"""DataProxyService: inputs, outputs, uploads and logs; and the folder that is our object store."""

import hashlib
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from flyteidl2.common import identifier_pb2, run_pb2
from flyteidl2.dataproxy import dataproxy_service_connect, dataproxy_service_pb2
from flyteidl2.task import common_pb2
from google.protobuf.message import Message

from .actions import Runs

AnyMessage = TypeVar("AnyMessage", bound=Message)


class Storage:
    """A folder that stands for the object store of a Flyte cluster.

    Uploads are plain HTTP PUTs to a URL that nobody can guess, as with signed URLs: they carry no
    credentials, and so need no TLS, on which every client would have to trust our authority.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._expected: dict[str, tuple[Path, bytes]] = {}
        self.address = ""
        """Where uploads go, as ``http://host:port``."""

    def run_base(self, run: identifier_pb2.RunIdentifier) -> str:
        """Return the path of the folder of a run's data."""
        return str(self._folder / "runs" / run.project / run.domain / run.name)

    def write(self, path: Path, message: Message) -> str:
        """Store a message, and return its URI."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(message.SerializeToString())
        return path.as_uri()

    def read(self, uri: str | Path, kind: type[AnyMessage]) -> AnyMessage:
        """Return the message stored at a URI or path; an empty one if there is none."""
        path = uri if isinstance(uri, Path) else Path(unquote(urlsplit(uri).path))
        message: AnyMessage = kind()
        if path.exists():
            message.ParseFromString(path.read_bytes())
        return message

    def expect(self, name: str, md5: bytes) -> tuple[str, str]:
        """Await an upload; return the URL to PUT it to, and the URI at which it will then be."""
        key = secrets.token_urlsafe()
        path = self._folder / "uploads" / key / name
        self._expected[f"/upload/{key}"] = path, md5
        return f"{self.address}/upload/{key}", path.as_uri()

    def put(self, url_path: str, content_md5: str, content: bytes) -> int:
        """Take an upload, and return the HTTP status to answer with.

        Args:
            url_path: The path of the signed URL.
            content_md5: The Content-MD5 header, which is a part of what is signed.
            content: The body.
        """
        if url_path not in self._expected:
            return 403
        path, md5 = self._expected[url_path]
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        if digest != md5 or content_md5 != b64encode(md5).decode():
            return 400
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return 200


class DataProxyService(dataproxy_service_connect.DataProxyService):
    """Moves the data of runs in and out."""

    def __init__(self, runs: Runs, storage: Storage) -> None:
        self._runs = runs
        self._storage = storage

    async def create_upload_location(
        self,
        request: dataproxy_service_pb2.CreateUploadLocationRequest,
        ctx: RequestContext[Any, Any],
    ) -> dataproxy_service_pb2.CreateUploadLocationResponse:
        """Prepare for the upload of one file."""
        del ctx
        name = Path(request.filename).name or "upload"
        signed_url, native_url = self._storage.expect(name, request.content_md5)
        return dataproxy_service_pb2.CreateUploadLocationResponse(
            signed_url=signed_url, native_url=native_url
        )

    async def upload_inputs(
        self, request: dataproxy_service_pb2.UploadInputsRequest, ctx: RequestContext[Any, Any]
    ) -> dataproxy_service_pb2.UploadInputsResponse:
        """Store the inputs of a run that is about to be created."""
        del ctx
        run = request.run_id
        if not request.HasField("run_id"):
            project = request.project_id
            run = identifier_pb2.RunIdentifier(
                project=project.name, domain=project.domain, name=f"inputs-{secrets.token_hex(9)}"
            )
        content = request.inputs.SerializeToString(deterministic=True)
        return dataproxy_service_pb2.UploadInputsResponse(
            offloaded_input_data=run_pb2.OffloadedInputData(
                uri=self._storage.write(
                    Path(self._storage.run_base(run), "inputs.pb"), request.inputs
                ),
                inputs_hash=hashlib.sha256(content).hexdigest(),
            )
        )

    async def get_action_data(
        self, request: dataproxy_service_pb2.GetActionDataRequest, ctx: RequestContext[Any, Any]
    ) -> dataproxy_service_pb2.GetActionDataResponse:
        """Read the inputs and, as far as there are any, the outputs."""
        del ctx
        action = self._runs.action(request.action_id)
        outputs = action.outputs / "outputs.pb"
        return dataproxy_service_pb2.GetActionDataResponse(
            inputs=self._storage.read(action.input_uri, common_pb2.Inputs),
            outputs=self._storage.read(outputs, common_pb2.Outputs),
            inputs_uri=action.input_uri,
            outputs_uri=outputs.as_uri(),
        )

    async def tail_logs(
        self, request: dataproxy_service_pb2.TailLogsRequest, ctx: RequestContext[Any, Any]
    ) -> AsyncIterator[dataproxy_service_pb2.TailLogsResponse]:
        """Send the log as it grows, until the action is over."""
        del ctx
        action = self._runs.action(request.action_id)
        if request.attempt > 1:
            raise ConnectError(Code.NOT_FOUND, f"there is no attempt {request.attempt}")
        sent = 0
        while True:
            if lines := action.log[sent:]:
                sent += len(lines)
                logs = dataproxy_service_pb2.TailLogsResponse.Logs(lines=lines)
                yield dataproxy_service_pb2.TailLogsResponse(logs=[logs])
            elif action.done:
                return
            else:
                await action.changed.wait()
