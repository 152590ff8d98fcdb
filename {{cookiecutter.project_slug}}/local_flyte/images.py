"""ImageService, as on Union."""

from pathlib import Path

from flyteidl2.imagebuilder import definition_pb2, service_connect
from flyteidl2.imagebuilder import payload_pb2 as pb

from .access import Context


class ImageService(service_connect.ImageService):
    """Says that every image has been built: the Python environment of this machine replaces all.

    So deploying needs neither ``uv`` nor a package index. The open-source Flyte has no such
    service: the SDK asks the registry that Docker pushes to.
    """

    async def get_image(self, request: pb.GetImageRequest, ctx: Context) -> pb.GetImageResponse:
        built = f"local/{Path(request.id.name).name}"
        return pb.GetImageResponse(image=definition_pb2.Image(id=request.id, fqin=built))
