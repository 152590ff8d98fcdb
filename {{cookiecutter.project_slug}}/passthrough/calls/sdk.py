"""The errors of calls to Flyte, and the private names of the SDK that the app changes or uses.

Other modules use the private names only through `sdk_object`. `check_names` checks all names when
the app starts.
"""

import dataclasses
import functools
import inspect
from pkgutil import resolve_name
from typing import Any, ClassVar

import flyte.errors
from connectrpc.code import Code
from connectrpc.errors import ConnectError


class StartError(SystemExit):
    """The app cannot start. The message contains the reason and the fix; there is no traceback."""


class NotForManyCallersError(RuntimeError):
    """This part of the SDK is unsafe with many callers. The message names an alternative."""


class DeadlineExceededError(flyte.errors.RuntimeSystemError):
    """Flyte did not respond in time.

    This class is not a TimeoutError, because the SDK repeats a watch after a TimeoutError.
    """

    def __init__(self, method: str) -> None:
        super().__init__("DeadlineExceeded", "Flyte did not respond in time")
        self.method = method


class TooLargeError(ConnectError):
    """Data from Flyte is larger than a limit. The app responds with 413."""

    problem_code: ClassVar[Any] = "response_too_large"  # the ``code`` in the problem response

    def __init__(self, text: str) -> None:
        super().__init__(Code.OUT_OF_RANGE, text)


class MessageTooLargeError(TooLargeError):
    """One message from Flyte is too large. In a list, the app then fetches a smaller page."""

    problem_code = "message_too_large"


class FlyteLimitError(TooLargeError):
    """Stored inputs or outputs are larger than 2 MiB, so Flyte does not return them."""

    problem_code = "outputs_too_large"


FLYTE_ERRORS = (ConnectError, flyte.errors.BaseRuntimeError, TimeoutError)
"""The errors that a failed call to Flyte may raise."""

SDK_NAMES = {
    # calls/sessions.py uses these names to send each call with the caller's credentials.
    "flyte._utils.async_cache:ThreadSafeCache.get_or_compute": "key factory",
    "flyte.remote._client.controlplane:ClientSet.dataproxy_service": "",
    "flyte.remote._client.controlplane:ClientSet.run_service": "",
    "flyte.remote._client.controlplane:ClientSet.session_config": "",
    "flyte.remote._client.controlplane:SessionConfig": "endpoint insecure interceptors http_client"
    " tls_ca_cert",
    "flyte.remote._client.controlplane:SessionConfig.connect_kwargs": "",
    "flyte.remote._client.controlplane:create_session_config": "endpoint auth_endpoint",
    # calls/sdk.py uses these names to read the credentials, and to set the project and the domain.
    "flyte._initialize:_InitConfig": "client domain project",
    "flyte._initialize:_context_init_config.set": "",
    "flyte._initialize:get_init_config": "",
    "flyte.remote._auth_metadata:get_auth_metadata": "",
    # calls/json_values.py uses these names to convert inputs and outputs from and to JSON.
    "flyte._internal.runtime.convert:Inputs": "proto_inputs",
    "flyte._internal.runtime.convert:Outputs": "proto_outputs",
    "flyte._internal.runtime.convert:_convert_from_native_to_inputs_impl": "interface args"
    " custom_context kwargs preconverted",
    "flyte._internal.runtime.convert:convert_from_inputs_to_native": "native_interface inputs",
    "flyte._internal.runtime.convert:convert_from_native_to_inputs": "interface custom_context",
    "flyte._internal.runtime.convert:convert_from_native_to_inputs_binding_artifacts": "interface"
    " args kwargs custom_context",
    "flyte._internal.runtime.convert:convert_outputs_to_native": "interface outputs",
    "flyte.types:TypeEngine.guess_python_type": "",
    # calls/make_safe.py uses these names to cancel calls with the request, and to avoid caches that
    # all callers would share.
    "flyte._run:_Runner.rerun": "run_name inputs",
    "flyte.remote:Action.wait": "quiet wait_for",
    "flyte.syncify:syncify._bg_loop.call_in_loop_sync": "",
    "flyte.syncify:syncify._bg_loop.is_in_loop": "",
    "flyte.syncify:syncify._bg_loop.iterate_in_loop_sync": "",
    "flyte.remote._data:hash_file": "",
    "flyte.remote._progress:_Installed.handler": "",
    "flyte.remote._task:LazyEntity.fetch": "",
}
"""The private names of the SDK that the app uses or changes. The value of each entry lists
parameters that the function or class must have."""

sdk_object = functools.cache(resolve_name)
"""Return the object of the SDK with a name such as ``flyte.remote:Action.wait``."""


def check_names(*more: str) -> None:
    """Raise a StartError if the installed flyte lacks a name of `SDK_NAMES` or of ``more``."""
    for name, parameters in (SDK_NAMES | dict.fromkeys(more, "")).items():
        try:
            value = resolve_name(name)
            if not parameters or {*parameters.split()} <= {*inspect.signature(value).parameters}:
                continue
        except (ImportError, AttributeError):
            pass
        raise StartError(
            f"flyte {flyte.__version__} cannot be made safe for many callers: {name} has changed"
            " since flyte 2.12. Pin flyte>=2.12,<2.13 in pyproject.toml, and look for an update of"
            " the template."
        )


def forwarded_credentials() -> tuple[tuple[str, str], ...]:
    """Return the credential headers that the SDK sends to Flyte for the current caller."""
    return tuple(sdk_object("flyte.remote._auth_metadata:get_auth_metadata")())


def callers_credentials() -> tuple[tuple[str, str], ...]:
    """Return the credentials of the caller as headers, to call another app as the caller.

    The receiver of these headers can act as the caller. Send the headers only with TLS and only to
    an address that is fixed in your code. Do not follow redirects.

    Returns:
        Pairs of a lower-case header name, such as ``authorization``, and a value.

    Raises:
        ConnectError: There are no credentials, for example because no request is running (401).

    Example:
        @router.get("/me-in-other-app")
        async def read_me_in_other_app() -> dict[str, Any]:
            # OTHER_APP = "https://other-app.example.com"
            headers = dict(callers_credentials())
            async with httpx.AsyncClient(base_url=OTHER_APP, headers=headers) as client:
                response = await client.get("/me")
            return response.raise_for_status().json()
    """
    if credentials := forwarded_credentials():
        return credentials
    raise ConnectError(
        Code.UNAUTHENTICATED,
        "there are no credentials of a caller here: call Flyte while serving a request, not in a"
        " thread of your own or at start-up",
    )


def initialised() -> Any:
    """Return the configuration that the last ``flyte.init*`` of this process has set."""
    return sdk_object("flyte._initialize:get_init_config")()


def act_in(config: Any, project: str | None = None, domain: str | None = None) -> None:
    """Use ``config`` with this project and domain for later calls to Flyte in this context."""
    if project or domain:
        project, domain = project or config.project, domain or config.domain
        config = dataclasses.replace(config, project=project, domain=domain)
    sdk_object("flyte._initialize:_context_init_config").set(config)
