"""How the app starts: settings are read, Flyte is connected to, the process prepared."""

import asyncio
import gc
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from typing import TypeVar

import anyio
import flyte
from pydantic import ValidationError

from .calls.sdk import StartError
from .settings import Settings, variables_of

WHERE = "See what deployment.py says at env_vars; `make dev` starts the app with a local Flyte."

AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings], environ: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings from the environment.

    Raises:
        StartError: Lists what is wrong and what to give, but no value: it may be a credential.
    """
    lines = ["cannot start with these environment variables:"]
    try:
        return kind.model_validate({name: value for name, value in environ.items() if value})
    except ValidationError as error:
        for one in error.errors(include_url=False):
            variable, *place = one["loc"] or ("together",)  # of a check of several settings
            entry = "".join(f", entry {index + 1}" for index in place if isinstance(index, int))
            lines.append(f"{variable}{entry}: {one['msg'].removeprefix('Value error, ')}")
    raise StartError("\n  ".join(dict.fromkeys(lines)))


def validated(kind: type[Settings], variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of a deployment, or of ``.env``, if the app will start with them.

    Raises:
        StartError: It will not, or one looks like a setting that is misspelt.
    """
    load_settings(kind, variables)
    names = [variables_of(field)[0] for field in kind.model_fields.values()]
    for name in variables.keys() - {*names}:
        for meant in get_close_matches(name, names, n=1, cutoff=0.87):
            raise StartError(f"{name} is not a setting of the app; did you mean {meant}?")
    return variables


async def connect(settings: Settings) -> None:
    """Initialise the SDK to call Flyte as each request's caller. Sends nothing yet.

    Raises:
        StartError: There is no address for Flyte, or the connection would be plaintext, over which
            the SDK silently drops credentials (github.com/flyteorg/flyte-sdk, pull request 761).
    """
    if not settings.flyte_endpoint:
        wrong = "neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set"
        raise StartError(f"cannot start: {wrong}. {WHERE}")
    if settings.flyte_plaintext and not settings.allow_anonymous:
        raise StartError(
            "cannot start: the connection to Flyte would be plaintext (FLYTE_ENDPOINT or"
            " _U_EP_OVERRIDE has http://, or _U_INSECURE is set), without credentials. Use TLS, or"
            f" set ALLOW_ANONYMOUS=true to make every caller anonymous. {WHERE}"
        )
    await flyte.init.aio(
        endpoint=settings.flyte_endpoint,
        org=settings.flyte_org,
        project=settings.flyte_project,
        domain=settings.flyte_domain,
        insecure=settings.flyte_plaintext,
        auth_type="Passthrough",
        batch_size=200,  # the most that Flyte lists at once
    )


def prepare_the_process(settings: Settings) -> None:
    """Change the process when the app starts.

    - The garbage collector skips what exists from the start, and runs less often: otherwise
      ``GET /me`` costs a sixth more, with 100 at once.
    - There are so many threads that no caller can hold all of them.

    Elsewhere, the app changes attributes of ``flyte`` and the variable ``DO_NOT_TRACK``, because
    the SDK would send reports of usage (`make_safe`); handlers and levels of loggers, unless the
    owner has set handlers (`set_up_logging`); the event loop's finaliser of abandoned generators
    (``passthrough_auth.py``); and nothing else of the process.
    """
    gc.freeze()
    gc.set_threshold(10_000)
    threads = anyio.to_thread.current_default_thread_limiter()
    threads.total_tokens = most = max(40, 2 * settings.open_requests_per_caller)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(most))
