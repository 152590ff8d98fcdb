"""Nested references in a schema become 2^n classes.

The `$ref`s in a schema are resolved one by one, blocking the event loop: 6 s at 12 levels, over
a minute at 14.

Severity: Medium, since 2.3.9 or older.

Patch: the same function: cache the class for each `$ref`, and limit the rest.
"""

import asyncio
import contextlib
import dataclasses
from unittest import mock

from flyte import remote
from flyteidl2.core.literals_pb2 import Literal, Scalar, Void
from flyteidl2.core.types_pb2 import LiteralType
from harness import plane

of = lambda n: {s: {"$ref": f"#/$defs/n{n + 1}"} for s in "ab"} if n < 10 else {}
definitions = {
    f"n{n}": {"type": "object", "title": f"N{n}", "properties": of(n)} for n in range(11)
}
kind = LiteralType(simple="STRUCT", metadata={**definitions["n0"], "$defs": definitions})
plane.store(kind, Literal(scalar=Scalar(none_type=Void())))
with mock.patch("dataclasses.make_dataclass", wraps=dataclasses.make_dataclass) as made:
    with contextlib.suppress(Exception):
        asyncio.run(remote.RunDetails.get(name="r").inputs())
assert made.call_count > 1000  # of eleven definitions
