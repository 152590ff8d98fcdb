"""An image found for one caller is returned to the next.

For each image, `flyte.build` caches whether it exists, and the run that builds it. The next
caller gets both from the cache, even without the right to see them.

Severity: Medium, tried with 2.12.1.

Patch: `_internal/imagebuild/image_builder.py`, `ImageBuildEngine.image_exists` and `build`: no
`alru_cache` in passthrough.
"""

import flyte
from flyte import remote
from harness import ALICE, BOB, plane

image = flyte.Image.from_debian_base(name="report").with_pip_packages("pandas")
for caller in (ALICE, BOB):
    with remote.auth_metadata(caller):
        assert flyte.build(image).uri == "registry/image:1"
assert plane.received("GetImage", "authorization") == [ALICE[1]]
