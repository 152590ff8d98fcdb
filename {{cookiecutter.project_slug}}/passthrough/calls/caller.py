"""As whom, and in which project and domain, the SDK calls Flyte."""

from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from .sdk import sdk_object


def forwarded_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which Flyte is called as the caller."""
    found: tuple[tuple[str, str], ...] = sdk_object(
        "flyte.remote._auth_metadata:get_auth_metadata"
    )()
    return found


def callers_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which to call as the caller.

    Whoever receives them can act as the caller: send them only with TLS, follow no redirect, and
    never to an address from a request.

    Raises:
        ConnectError: There are none, so the call would be anonymous.
    """
    if credentials := forwarded_credentials():
        return credentials
    raise ConnectError(
        Code.UNAUTHENTICATED,
        "there are no caller's credentials here: call Flyte while serving a request, not in a"
        " thread of your own or at start-up",
    )


def initialised() -> Any:
    """Return the configuration from the last ``flyte.init*`` in this process.

    Raises:
        flyte.errors.InitializationError: Flyte has not been initialised.
        RuntimeError: Flyte was initialised before `make_safe`.
    """
    config = sdk_object("flyte._initialize:get_init_config")()
    if not hasattr(config.client.session_config.interceptors[-1], "acts_as_the_caller"):
        raise RuntimeError("initialise Flyte in the app's lifespan, not before the app starts")
    return config


def act_in(config: Any, project: str | None = None, domain: str | None = None) -> None:
    """Use this configuration for calls to Flyte from here on, in the current context."""
    if project or domain:
        config = config.replace(project=project or config.project, domain=domain or config.domain)
    sdk_object("flyte._initialize:_context_init_config").set(config)
