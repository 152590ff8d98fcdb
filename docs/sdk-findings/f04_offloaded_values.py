"""An offloaded value is read from any URI.

A literal may contain a URI instead of its value, with any scheme that fsspec supports,
including `file://`. The SDK reads the URI with the rights of the process, and returns the value.

Severity: High, since 2.3.9 or older.

Patch: `TypeEngine.unwrap_offloaded_literal`: outside a task's container, return the literal
unchanged, or read it through the data proxy as the caller. At least refuse schemes other than
the object store's.
"""

import asyncio
import os

from flyte import remote
from flyteidl2.core.literals_pb2 import Literal, LiteralOffloadedMetadata, Primitive, Scalar
from flyteidl2.core.types_pb2 import LiteralType
from harness import plane

of_the_process = Literal(scalar=Scalar(primitive=Primitive(string_value="secret")))
open("stored", "wb").write(of_the_process.SerializeToString())
uri = "file://" + os.path.abspath("stored")
offloaded = Literal(offloaded_metadata=LiteralOffloadedMetadata(uri=uri))
plane.store(LiteralType(simple="STRING"), offloaded)
assert dict(asyncio.run(remote.RunDetails.get(name="r").inputs())) == {"x": "secret"}
