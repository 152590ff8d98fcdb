"""Values that other users have stored are unpickled.

`run.inputs()`, `run.outputs()` and everything else that uses the type engine unpickle a binary
literal without a tag, or with the tag `pickle`, regardless of the expected type.

Severity: Critical, since 2.3.9 or older.

Patch: `types/_pickle.py`, `FlytePickleTransformer.guess_python_type`: raise `ValueError`. A
pickle is then loaded only if the reader's own annotation asks for one, and stays a literal
otherwise. Better: also offer a way to read literals that builds no objects (to JSON).
"""

import asyncio
import os
import pickle

from flyte import remote
from flyteidl2.core.literals_pb2 import Binary, Literal, Scalar
from flyteidl2.core.types_pb2 import LiteralType
from harness import plane


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


binary = Binary(value=pickle.dumps(Payload()))
plane.store(LiteralType(simple="BINARY"), Literal(scalar=Scalar(binary=binary)))
asyncio.run(remote.RunDetails.get(name="r").inputs())
assert os.path.exists("executed")
