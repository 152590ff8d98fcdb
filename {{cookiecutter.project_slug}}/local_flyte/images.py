"""ImageService and the task that builds images, as on Union."""

from pathlib import Path

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.core import interface_pb2, types_pb2
from flyteidl2.imagebuilder import definition_pb2, service_connect
from flyteidl2.imagebuilder import payload_pb2 as pb
from flyteidl2.task import task_definition_pb2

from .access import Context

BUILDER = task_definition_pb2.TaskIdentifier(
    project="system", domain="production", name="build-image", version="local"
)
"""The task that the SDK runs to build an image remotely."""

BUILD = """
import sys
from pathlib import Path
from urllib.parse import unquote
from flyteidl2.task import common_pb2

inputs, outputs, registry = (Path(unquote(each.removeprefix("file://"))) for each in sys.argv[1:])
literals = common_pb2.Inputs.FromString(inputs.read_bytes()).literals
given = {each.name: each.value.scalar.primitive.string_value for each in literals}
image = registry / Path(given["target_image"]).name
for folder in (registry, outputs):
    folder.mkdir(parents=True, exist_ok=True)
image.touch()
result = common_pb2.Outputs()
result.literals.add(name="o0").value.scalar.primitive.string_value = f"local/{image.name}"
(outputs / "outputs.pb").write_bytes(result.SerializeToString())
"""
"""Builds nothing: the Python environment of this machine replaces every image."""


def builder(registry: Path) -> task_definition_pb2.TaskSpec:
    """Return the task, which records the images that it has built in a folder."""
    spec = task_definition_pb2.TaskSpec(short_name=BUILDER.name)
    template = spec.task_template
    template.id.project, template.id.domain = BUILDER.project, BUILDER.domain
    template.id.name, template.id.version = BUILDER.name, BUILDER.version
    template.type = "python"
    template.container.command.extend(["python", "-c", BUILD])
    opening, closing = "{" * 2, "}" * 2  # written like this because cookiecutter renders this file
    given = [f"{opening}.{name}{closing}" for name in ("input", "outputPrefix")]
    template.container.args.extend([*given, str(registry)])
    text = interface_pb2.Variable(type=types_pb2.LiteralType(simple=types_pb2.STRING))
    for name in ("spec", "context", "target_image"):
        template.interface.inputs.variables.add(key=name, value=text)
    template.interface.outputs.variables.add(key="o0", value=text)
    return spec


class ImageService(service_connect.ImageService):
    """Returns the images that were built.

    The open-source Flyte has no such service: the SDK asks the registry that Docker pushes to.
    """

    def __init__(self, registry: Path | None) -> None:
        """Create the service for a registry, which is a folder; None for one that has every image.

        This is possible because one Python environment of this machine replaces all images.
        """
        self._registry = registry

    async def get_image(self, request: pb.GetImageRequest, ctx: Context) -> pb.GetImageResponse:
        name = Path(request.id.name).name
        if self._registry is not None and not (self._registry / name).is_file():
            raise ConnectError(Code.NOT_FOUND, f"no image {request.id.name} was built")
        return pb.GetImageResponse(image=definition_pb2.Image(id=request.id, fqin=f"local/{name}"))
