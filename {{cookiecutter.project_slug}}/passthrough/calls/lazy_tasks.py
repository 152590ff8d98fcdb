"""Makes lazy tasks and the SDK's caches safe: each caller asks Flyte for themselves."""

import inspect
from typing import Any

from .caller import forwarded_credentials, initialised
from .request_calls import request_calls
from .sdk import part


def change_lazy_tasks() -> None:
    """Fetch a task once per request, as its caller, even if it is defined at module level."""
    lazy, syncify = part("flyte.remote._task:LazyEntity"), part("flyte.syncify:syncify")

    async def fetch(self: Any) -> Any:
        tasks, config = request_calls().tasks, initialised()
        key = (self, config.project, config.domain, forwarded_credentials())
        if key not in tasks:
            tasks[key] = await self._getter()
        return tasks[key]

    async def override(self: Any, **options: Any) -> Any:
        async def overridden() -> Any:
            return (await self.fetch.aio()).override(**options)

        return lazy(self.name, overridden)

    lazy.fetch, lazy.override = syncify(fetch), syncify(override)
    # It caches hashes by path, and the path of a temporary file may be reused.
    data = part("flyte.remote._data")
    data.hash_file = _uncached(data.hash_file)
    # It remembers uploads of code: the next caller would be answered without asking Flyte.
    bundles = part("flyte._code_bundle.bundle")
    bundles._read_bundle_cache = bundles._write_bundle_cache = lambda *_: None
    # It remembers images and their builds, too.
    images = part("flyte._internal.imagebuild.image_builder:ImageBuildEngine")
    for name, kind in (("image_exists", staticmethod), ("build", classmethod)):
        setattr(images, name, kind(_uncached(inspect.getattr_static(images, name).__func__)))


def _uncached(function: Any) -> Any:
    return getattr(function, "__wrapped__", function)
