"""Makes the Flyte SDK safe in a process that serves many callers.

The SDK is made for one user per process. `make_safe` changes the few functions of the SDK through
which all calls pass. The page docs/flyte-remote.md lists the changes. The app starts only if the
installed version of flyte has all names in `SDK_NAMES` (``sdk.py``) and `REFUSED`.
"""

import asyncio
import copy
import functools
import inspect
import os
import re
import sys
from collections.abc import AsyncIterator, Coroutine
from types import SimpleNamespace
from typing import Any

import flyte
from flyte import remote
from flyte.syncify import syncify

from ..values.inputs import InvalidInputs
from .json_values import change_values
from .request_state import this_request
from .sdk import NotForManyCallersError, check_names, sdk_object
from .sessions import change_sessions, is_rerun

CODE = "serve code from its own source, such as its repository"
DEPLOY = "deploy from the command line, and run the task as flyte.remote.Task.get(name)"
FILES = "it may point to a file of the app itself; pass on the URI and let a task read the file"
OTHERS = (
    "it may run code that others have stored: use the JSON of inputs and outputs, or the URL of an"
    " artifact"
)
REPORT = "redirect the browser to await passthrough.fetch_report_url(action)"
STORAGE = (
    "upload files with flyte.remote.upload_file.aio(), pass on the URI and let tasks read them"
)
REFUSED = {
    # The first three functions implement flyte.build, flyte.deploy, flyte.serve, and flyte.run with
    # a Python function as the task.
    "flyte._deploy:plan_deploy": DEPLOY,
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.build": DEPLOY,
    "flyte._run:_Runner._run_local": DEPLOY,
    "flyte.io:DataFrame.open": FILES,
    "flyte.io:Dir.download": FILES,
    "flyte.io:Dir.download_sync": FILES,
    "flyte.io:File.download": FILES,
    "flyte.io:File.download_sync": FILES,
    "flyte.remote:Action.download_code": CODE,  # Run.download_code calls it
    "flyte.remote:Action.get_report": REPORT,  # Run.get_report calls it
    "flyte.storage:get_underlying_filesystem": STORAGE,
    "flyte.storage._storage:get_underlying_filesystem": STORAGE,
    "flyte.types:TypeEngine.to_python_value": OTHERS,  # Artifact.to_python calls it
}
"""Maps refused functions of the SDK to alternatives for developers.

With the rights of the app, the refused functions would run, build or upload code of the app, open
files that other users have named, or load values that other users have stored."""

MAX_UNKNOWN_CHARS = 1_000
"""Number of characters of the SDK's error in which the app searches for names of inputs. A search
for 80,000 names in the whole error would take 18 seconds."""


@functools.cache
def make_safe() -> None:
    """Make the SDK safe for many callers. Only the first call in a process has an effect."""
    # Without this environment variable, the SDK would send error messages as telemetry.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    check_names(*REFUSED)
    change_sessions()
    _change_loop()
    change_values()
    _change_lazy_tasks()
    _change_reruns()
    _change_uploads()
    for name, instead in REFUSED.items():
        owner, method = re.split(r"[.:](?=\w+$)", name)
        setattr(sdk_object(owner), method, _refusal(name, instead))


def _change_loop() -> None:
    """Make the SDK run async calls in the current task, and cancel all calls with the request.

    Otherwise the SDK would run async calls in another thread, where no request could cancel them.
    """
    kind = type(sdk_object("flyte.syncify:syncify._bg_loop"))
    call, iterate = kind.call_in_loop_sync, kind.iterate_in_loop_sync

    async def with_the_request(coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            with this_request().calls.cancel_task_at_end():
                return await coro
        finally:
            coro.close()  # the coroutine has not started if the request had already ended

    def call_in_loop_sync(self: Any, coro: Coroutine[Any, Any, Any]) -> Any:
        _refuse_to_block(coro)
        return call(self, with_the_request(coro))

    def iterate_in_loop_sync(self: Any, async_gen: AsyncIterator[Any]) -> Any:
        _refuse_to_block(async_gen)
        return iterate(self, async_gen)

    async def wait(self: Any, quiet: bool = False, wait_for: Any = "terminal") -> None:  # noqa: ARG001
        if not self.done():
            async for _ in self.watch(wait_for=wait_for):
                pass

    # Starlette awaits only coroutine functions. Otherwise `background.add_task(flyte.run.aio, …)`
    # would have no effect.
    function: Any = type(flyte.run).aio
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:  # the function above does the same in later versions of Python
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    kind.is_in_loop = lambda _: True  # then the SDK uses the current event loop
    kind.call_in_loop_sync = call_in_loop_sync
    kind.iterate_in_loop_sync = iterate_in_loop_sync
    action: Any = remote.Action
    action.wait = wait  # the SDK's method prints to the console and ignores cancellations


def _refuse_to_block(call: Any) -> None:
    """Refuse a blocking call in the event loop, because it would block all callers forever."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if isinstance(call, Coroutine):
        call.close()
    name = call.__qualname__
    raise NotForManyCallersError(
        f"{name} blocks, and in an `async def` it would block every caller: call `{name}.aio(…)`"
        " with `await` or `async for`, or make the endpoint a plain `def`"
    )


def _change_lazy_tasks() -> None:
    """Make the SDK fetch a lazy task again for each call.

    Otherwise a lazy task in a global variable would fetch the task once, with the credentials of
    the first caller, and use the fetched task for all callers.
    """
    lazy_entity = sdk_object("flyte.remote._task:LazyEntity")
    sdk_fetch = vars(lazy_entity)["fetch"]

    async def fetch(self: Any) -> Any:
        # The SDK stores the fetched task in `self`, and locks `self` during the call. Therefore
        # copy `self` for each call.
        return await sdk_fetch.__get__(copy.deepcopy(self), lazy_entity).aio()

    fetch.__qualname__ = "LazyEntity.fetch"  # the error of `_refuse_to_block` contains this name
    lazy_entity.fetch = syncify(fetch)


def _change_reruns() -> None:
    """Limit the size of details in a rerun, and raise InvalidInputs (422) for refused inputs."""
    runner = sdk_object("flyte._run:_Runner")
    sdk_rerun = vars(runner)["rerun"]

    async def rerun(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        token = is_rerun.set(True)
        try:
            return await sdk_rerun.__get__(self, runner).aio(*args, **kwargs)
        except InvalidInputs:
            raise
        except ValueError as error:  # such as "Unknown input(s) ['a', 'b'] for"
            names = str(error).partition(" for ")[0][:MAX_UNKNOWN_CHARS]
            unknown = [name for name in kwargs if repr(name) in names]
            errors: list[Any] = [((name,), "the task has no such input") for name in unknown]
            raise InvalidInputs(errors or [((), str(error))]) from None
        finally:
            is_rerun.reset(token)

    runner.rerun = syncify(rerun)


def _change_uploads() -> None:
    """Make the SDK upload files in large chunks, and without a cache of hashes."""
    # hash_file caches hashes by path, but the path of a temporary file may be reused.
    data = sdk_object("flyte.remote._data")
    data.hash_file = getattr(data.hash_file, "__wrapped__", data.hash_file)
    # Without a progress handler, the SDK would send a file line by line, which takes 10 seconds per
    # megabyte.
    watcher = dict.fromkeys(("start", "advance", "finish"), lambda *_, **__: None)
    sdk_object("flyte.remote._progress:_Installed").handler = SimpleNamespace(**watcher)


def _refusal(name: str, instead: str) -> Any:
    """Return a function that raises a NotForManyCallersError, which names the alternative."""
    subject = f"{name} is"
    if instead == DEPLOY:
        subject = f"flyte.run of a function, flyte.build, deploy and serve ({name}) are"

    def refuse(*_: Any, **__: Any) -> Any:
        raise NotForManyCallersError(
            f"{subject} not available in an app that serves many callers: {instead}"
        )

    refuse.aio = refuse  # type: ignore[attr-defined]
    return refuse
