"""A local file of the app is opened if a value contains its path.

A `File` and a `Dir` whose URI is a path of this machine are downloaded from there, and a
`DataFrame` is read or, as an input, uploaded from there. The URI may come from another user's
output, or from a client.

Severity: High, tried with 2.12.1.

Patch: `io/`: in passthrough, `download`, `DataFrame.open` and
`DataFrameTransformerEngine.to_literal` refuse URIs without a scheme, and `file:`.
"""

import asyncio

import harness
from flyte.io import File

path = asyncio.run(File.from_existing_remote("/proc/self/environ").download())
with open(path, "rb") as opened:
    assert b"PATH=" in opened.read()
