"""Makes lazy tasks and the SDK's caches safe: each caller asks Flyte for themselves."""

import inspect
from typing import Any

from flyte.syncify import syncify

from .caller import forwarded_credentials, initialised
from .request_calls import request_calls
from .sdk import sdk_object


def change_lazy_tasks() -> None:
    """Fetch a task once per request, as its caller, even if it is defined at module level."""
    lazy = sdk_object("flyte.remote._task:LazyEntity")

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
    # hash_file caches by path, and the path of a temporary file may be reused.
    data = sdk_object("flyte.remote._data")
    data.hash_file = _uncached(data.hash_file)
    # Unless the progress of uploads is watched, a file is sent line by line: 10 s for a megabyte.
    sdk_object("flyte.remote._progress:_Installed").handler = _Watcher
    # The cache of uploaded code would answer the next caller without asking Flyte.
    bundles = sdk_object("flyte._code_bundle.bundle")
    bundles._read_bundle_cache = bundles._write_bundle_cache = lambda *_: None
    # So would the cache of images and their builds.
    images = sdk_object("flyte._internal.imagebuild.image_builder:ImageBuildEngine")
    for name, kind in (("image_exists", staticmethod), ("build", classmethod)):
        setattr(images, name, kind(_uncached(inspect.getattr_static(images, name).__func__)))


class _Watcher:
    """Watches the progress of uploads, and does nothing."""

    start = advance = finish = staticmethod(lambda *_, **__: None)


def _uncached(function: Any) -> Any:
    return getattr(function, "__wrapped__", function)
