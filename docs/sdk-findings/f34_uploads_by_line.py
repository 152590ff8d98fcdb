"""A file is uploaded line by line.

httpx iterates over the file, and a file of aiofiles yields lines. Each line is read in a thread and
sent separately, so a megabyte of short lines takes seconds. A file without line breaks is read into
memory as a whole.

Severity: Medium, tried with 2.12.1.

Patch: `remote/_data.py`, `_put_signed_url_with_retry`: always send `_progress.stream_file(...)`, also
without a progress display.
"""

import asyncio
from pathlib import Path

import httpx
from flyte.remote import _data
from harness import FOLDER

parts: list[bytes] = []


async def send(_: object, request: httpx.Request) -> httpx.Response:
    assert isinstance(request.stream, httpx.AsyncByteStream)
    parts.extend([part async for part in request.stream])
    return httpx.Response(200)


httpx.AsyncHTTPTransport.handle_async_request = send  # type: ignore[method-assign]
(table := Path(FOLDER, "table.csv")).write_text("Berlin,Spree\n" * 1000)
asyncio.run(_data._put_signed_url_with_retry(table, "https://store.example/table", {}, True))
assert len(parts) == 1000
