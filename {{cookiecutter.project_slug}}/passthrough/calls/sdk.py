"""The private names of the SDK: all that are changed or used, and checked at start-up.

No other module touches a private name of the SDK except through `sdk_object`.
"""

import functools
import inspect
import re
from contextlib import suppress
from pkgutil import resolve_name

SDK_NAMES = {
    f"{owner}{'.' if ':' in owner else ':'}{name}": parameters
    for owner, names in {
        "flyte._code_bundle.bundle": "_read_bundle_cache _write_bundle_cache",
        "flyte._initialize": "_context_init_config.set _InitConfig.replace get_init_config",
        "flyte._internal.imagebuild.image_builder:ImageBuildEngine": "build image_exists",
        "flyte._internal.runtime.convert": "convert_outputs_to_native(interface outputs)"
        " convert_from_inputs_to_native(native_interface inputs)"
        " convert_from_native_to_inputs(interface custom_context)"
        " convert_from_native_to_inputs_binding_artifacts(interface args kwargs custom_context)"
        " _convert_from_native_to_inputs_impl(interface args custom_context kwargs preconverted)",
        "flyte._run:_Runner": "rerun.fn(run_name inputs)",
        "flyte._sentry": "count _is_disabled",
        "flyte._utils.async_cache:ThreadSafeCache": "get_or_compute(key factory)",
        "flyte.remote": "Action.wait(quiet wait_for) ActionInputs.__repr__"
        " ActionOutputs.__new__(pb2 data) Run.__post_init__ Trigger",
        "flyte.remote._auth_metadata": "get_auth_metadata",
        "flyte.remote._client.controlplane": "create_session_config(endpoint auth_endpoint)"
        " SessionConfig(endpoint insecure interceptors http_client tls_ca_cert)"
        " SessionConfig.connect_kwargs ClusterAwareDataProxy.get_action_data(request)",
        "flyte.remote._client.controlplane:ClientSet": "dataproxy_service run_service"
        " session_config",
        "flyte.remote._common:ToJSONMixin": "to_dict to_json",
        "flyte.remote._data": "_put_signed_url_with_retry hash_file",
        "flyte.remote._logs": "AppLogs.tail.fn(app_id) Logs.tail.fn(action_id attempt retry) Text",
        "flyte.remote._task": "LazyEntity(name getter)",
        "flyte.remote._task:LazyEntity": "_getter fetch override",
        "flyte.syncify:syncify._bg_loop": "call_in_loop_sync is_in_loop iterate_in_loop_sync",
        "flyte.types": "guess_interface(interface default_inputs)",
        "flyte.types:TypeEngine": "guess_python_type to_literal_type"
        " to_literal(python_val python_type expected)",
        "flyte.types._interface": "guess_interface",
        "flyte.types._pickle": "DEFAULT_PICKLE_BYTES_LIMIT",
    }.items()
    for name, parameters in re.findall(r"([\w.]+)(?:\(([\w ]*)\))?", names)
}
"""The parts of the SDK that are changed or used here, with the parameters they must have."""

sdk_object = functools.cache(resolve_name)
"""Return a part of the SDK by its name, as in `SDK_NAMES`."""


def is_there(name: str, parameters: str) -> bool:
    """Tell whether the installed flyte has this name, with these parameters."""
    with suppress(ImportError, AttributeError):
        found = resolve_name(name)
        return not parameters or {*parameters.split()} <= {*inspect.signature(found).parameters}
    with suppress(ImportError, AttributeError):  # an attribute that the constructor sets
        owner, _, attribute = name.rpartition(".")
        return attribute in resolve_name(owner).__init__.__code__.co_names
    return False
