"""The image builder of the local Flyte, as a task: it builds nothing, but checks the definition.

The Python environment of this machine replaces every image. As for Union's builder, the files in
the image's definition must be in the context. The image's name goes into the registry, a folder.
"""

import sys
import tarfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flyteidl2.core import execution_pb2
from flyteidl2.imagebuilder import definition_pb2
from flyteidl2.task import common_pb2

FILES = {"file", "dir", "src", "pyproject", "uvlock", "source_dir", "poetry_lock"}
"""Fields of a layer that refer to the context."""


def local_path(uri: str) -> Path:
    """Return the path of an uploaded file."""
    return Path(unquote(urlsplit(uri).path))


def check(spec: definition_pb2.ImageSpec, context: str) -> None:
    """Raise ``FileNotFoundError`` for a file that is not in the context, and print the layers."""
    names: set[str] = set()
    if context:
        with tarfile.open(local_path(context)) as archive:
            names = {str(Path(name)) for name in archive.getnames()}
    for layer in spec.layers:
        for kind, detail in layer.ListFields():
            print(f"{kind.name}: {' '.join(str(detail).split())}")
            for field, value in detail.ListFields():
                if field.name in FILES and str(Path(value)) not in {*names, "."}:
                    raise FileNotFoundError(f"the context of the build has no {value}")


def main(inputs: str, output_prefix: str, registry: str) -> None:
    """Read the inputs, and write the outputs or an error."""
    literals = common_pb2.Inputs.FromString(local_path(inputs).read_bytes()).literals
    given = {each.name: each.value.scalar.primitive.string_value for each in literals}
    outputs = Path(output_prefix)
    outputs.mkdir(parents=True, exist_ok=True)
    try:
        spec = local_path(given["spec"]).read_bytes()
        check(definition_pb2.ImageSpec.FromString(spec), given["context"])
    except (OSError, tarfile.TarError) as failure:
        document = execution_pb2.ErrorDocument()
        document.error.message = str(failure)
        document.error.origin = execution_pb2.ExecutionError.USER
        (outputs / "error.pb").write_bytes(document.SerializeToString())
        return
    name = Path(given["target_image"]).name
    Path(registry).mkdir(parents=True, exist_ok=True)
    Path(registry, name).write_bytes(spec)
    result = common_pb2.Outputs()
    result.literals.add(name="o0").value.scalar.primitive.string_value = f"local/{name}"
    (outputs / "outputs.pb").write_bytes(result.SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
