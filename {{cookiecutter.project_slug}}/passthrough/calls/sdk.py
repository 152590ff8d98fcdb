"""The errors of calls to Flyte, and the private names of the SDK that the app changes or uses.

Other modules use private names only through `sdk_object`. All are checked at start-up.
"""

import functools
import inspect
from pkgutil import resolve_name
from typing import Any, ClassVar

import flyte.errors
from connectrpc.code import Code
from connectrpc.errors import ConnectError


class StartError(SystemExit):
    """The app cannot start. The message says why and what to do, without a traceback."""


class NotForManyCallersError(RuntimeError):
    """This part of the SDK is unsafe with many callers. The message says what to use instead."""


class DeadlineExceededError(flyte.errors.RuntimeSystemError):
    """Flyte did not answer in time. No ``TimeoutError``: the SDK would subscribe again."""

    def __init__(self, method: str) -> None:
        super().__init__("DeadlineExceeded", "Flyte did not answer in time")
        self.method = method


class TooLargeError(ConnectError):
    """What Flyte has sent is beyond a limit: the answer is 413."""

    problem_code: ClassVar[Any] = "response_too_large"  # of ``http/problems.py``

    def __init__(self, text: str) -> None:
        super().__init__(Code.OUT_OF_RANGE, text)


class MessageTooLargeError(TooLargeError):
    """One message is too large by itself, so a part of it may be asked for."""

    problem_code = "message_too_large"


class FlyteLimitError(TooLargeError):
    """Flyte itself does not return inputs or outputs of this size."""

    problem_code = "outputs_too_large"


FLYTE_ERRORS = (ConnectError, flyte.errors.BaseRuntimeError, TimeoutError)  # of a failed call

SDK_NAMES = {
    # sessions: each call is made as the caller, to addresses that may have the credentials
    "flyte._utils.async_cache:ThreadSafeCache.get_or_compute": "key factory",
    "flyte.remote._client.controlplane:ClientSet.dataproxy_service": "",
    "flyte.remote._client.controlplane:ClientSet.run_service": "",
    "flyte.remote._client.controlplane:ClientSet.session_config": "",
    "flyte.remote._client.controlplane:SessionConfig": "endpoint insecure interceptors http_client"
    " tls_ca_cert",
    "flyte.remote._client.controlplane:SessionConfig.connect_kwargs": "",
    "flyte.remote._client.controlplane:create_session_config": "endpoint auth_endpoint",
    # here: who calls, and in which project and domain
    "flyte._initialize:_InitConfig.replace": "",
    "flyte._initialize:_context_init_config.set": "",
    "flyte._initialize:get_init_config": "",
    "flyte.remote._auth_metadata:get_auth_metadata": "",
    # json_values: values are JSON, in and out
    "flyte._internal.runtime.convert:_convert_from_native_to_inputs_impl": "interface args"
    " custom_context kwargs preconverted",
    "flyte._internal.runtime.convert:convert_from_inputs_to_native": "native_interface inputs",
    "flyte._internal.runtime.convert:convert_from_native_to_inputs": "interface custom_context",
    "flyte._internal.runtime.convert:convert_from_native_to_inputs_binding_artifacts": "interface"
    " args kwargs custom_context",
    "flyte._internal.runtime.convert:convert_outputs_to_native": "interface outputs",
    "flyte.types:TypeEngine.guess_python_type": "",
    # make_safe: calls run in the task that awaits them, and nothing of a caller stays for the next
    "flyte._run:_Runner.rerun": "run_name inputs",
    "flyte.remote:Action.wait": "quiet wait_for",
    "flyte.syncify:syncify._bg_loop.call_in_loop_sync": "",
    "flyte.syncify:syncify._bg_loop.is_in_loop": "",
    "flyte.syncify:syncify._bg_loop.iterate_in_loop_sync": "",
    "flyte.remote._data:hash_file": "",
    "flyte.remote._progress:_Installed.handler": "",
    "flyte.remote._task:LazyEntity.fetch": "",
}
"""By the module that changes or uses them, with the parameters that they must have."""

sdk_object = functools.cache(resolve_name)
"""Return a part of the SDK by its name, as in `SDK_NAMES`."""


def check_names(*more: str) -> None:
    """Raise a StartError unless the installed flyte has the names in `SDK_NAMES`, and these."""
    for name, parameters in (SDK_NAMES | dict.fromkeys(more, "")).items():
        try:
            found = resolve_name(name)
            if not parameters or {*parameters.split()} <= {*inspect.signature(found).parameters}:
                continue
        except (ImportError, AttributeError):
            pass
        raise StartError(
            f"flyte {flyte.__version__} cannot be made safe for many callers: {name} has changed"
            " since flyte 2.12. Pin flyte>=2.12,<2.13 in pyproject.toml, and look for an update of"
            " the template."
        )


def forwarded_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which Flyte is called as the caller."""
    return tuple(sdk_object("flyte.remote._auth_metadata:get_auth_metadata")())


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
    """Return the configuration from the last ``flyte.init*`` in this process."""
    return sdk_object("flyte._initialize:get_init_config")()


def act_in(config: Any, project: str | None = None, domain: str | None = None) -> None:
    """Use this configuration for calls to Flyte from here on, in the current context."""
    if project or domain:
        config = config.replace(project=project or config.project, domain=domain or config.domain)
    sdk_object("flyte._initialize:_context_init_config").set(config)
