"""What `make deploy` needs besides ``flyte deploy``: a built image, and the app's address."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from .calls.sdk import sdk_object

BUILDERS = ("DockerImageBuilder", "PodmanImageBuilder")
IN_THE_APP = "FLYTE_INTERNAL_EXECUTION_PROJECT"
"""Set where the app runs, which imports ``deployment.py`` as well, and builds no image."""


def build_unless_found() -> None:
    """Build an image that is not known to exist.

    The SDK asks Docker, Podman and docker.io in turn. If none of them answers, as in a network
    without docker.io, it assumes that the image exists, and deploys an app that cannot start.
    """
    if IN_THE_APP not in os.environ:
        for name in BUILDERS:
            builder = sdk_object(f"flyte._internal.imagebuild.docker_builder:{name}")
            builder.get_checkers = _with_an_answer(builder.get_checkers)


class _NotFound:
    """Is asked last, only if nobody else has answered."""

    @classmethod
    async def image_exists(cls, repository: str, tag: str, _platforms: Any) -> None:
        if sdk_object("flyte._initialize").get_init_config().client is None:
            raise LookupError("there is no config, which the SDK reports later")
        print(f"No registry says whether {repository}:{tag} exists, so it is built.", flush=True)


def _with_an_answer(get_checkers: Any) -> Any:
    return lambda builder: [*get_checkers(builder), _NotFound]


def main() -> None:
    """Print the address of the deployed app; the table of ``flyte deploy`` cuts it in two.

    The ``flyte`` command is asked: it knows how to sign in, also as a CI job.
    """
    from deployment import app_env  # noqa: PLC0415 - the project's

    command = [str(Path(sys.executable).with_name("flyte")), "get", "app", app_env.name]
    wide = {**os.environ, "COLUMNS": "2000", "TERM": "dumb"}
    shown = subprocess.run(command, env=wide, capture_output=True, text=True, check=False).stdout
    address = re.search(r"'publicUrl': '(\S+?)'", shown)
    print(f"Address: {address[1] if address else 'unknown; ' + ' '.join(command)}")


if __name__ == "__main__":
    main()
