"""Upload files for tasks to read."""

import asyncio
import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from flyte import remote
from pydantic import BaseModel, Field

from passthrough import CallerDep

from ..settings import Settings

router = APIRouter(tags=["files"])

CONTENT = "Content of the file; in a tool call, a UTF-8 text"
BYTES = {"type": "string", "format": "binary", "description": CONTENT}
NAME = "File name; `_` replaces characters other than ASCII letters, digits, `.` and `-`."
BODY = {"required": True, "content": {"application/octet-stream": {"schema": BYTES}}}


class StoredFile(BaseModel):
    """A file in Flyte's storage."""

    uri: str = Field(description="URI to pass as a task input", examples=["s3://bucket/towns.csv"])


@router.post(
    "/files",
    status_code=201,
    summary="Upload a file",
    max_body_size=Settings.limits.max_upload_bytes,
    openapi_extra={"requestBody": BODY},
)
async def upload_file(
    request: Request,
    _: CallerDep,  # Flyte authenticates the caller before the app reads the file
    name: Annotated[str, Query(description=NAME)] = "file",
) -> StoredFile:
    """Upload a file as the caller. The body of the request is the content of the file.

    Send `application/octet-stream` even if the file is JSON. Pass the URI in the response as a task
    input.
    """
    kind = request.headers.get("content-type", "").lower()
    # For these media types, FastAPI would keep the whole body in memory.
    if kind.startswith("multipart/") or "json" in kind:
        raise HTTPException(415, "send the file itself, as application/octet-stream")
    last = re.split(r"[/\\]", name)[-1]
    last = re.sub(r"[^\w.-]+", "_", last, flags=re.ASCII)[-200:]  # Flyte's URIs are ASCII
    last = re.sub(r"\.\w+$", lambda ending: ending[0].lower(), last)  # the SDK reads .csv, not .CSV
    stored_as = last.lstrip(".") or "file"
    with NamedTemporaryFile() as file:
        async for part in request.stream():
            file.write(part)
        # A client that uploads an empty file sends a Content-Type.
        if not kind and not file.tell():
            raise HTTPException(422, "send the content of the file, as application/octet-stream")
        file.flush()
        # Upload in a thread, because the SDK reads the whole file to compute a hash.
        _md5, uri = await asyncio.to_thread(remote.upload_file, Path(file.name), fname=stored_as)
    return StoredFile(uri=uri)
