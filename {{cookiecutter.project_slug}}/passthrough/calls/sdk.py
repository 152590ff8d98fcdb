"""The private names of the SDK: all that are changed or used, and checked at start-up.

No other module touches a private name of the SDK except through `part`.
"""

import dis
import functools
import inspect
from contextlib import suppress
from pkgutil import resolve_name
from typing import Any

SDK_NAMES = {
    "flyte._code_bundle.bundle:_read_bundle_cache": "digest",
    "flyte._code_bundle.bundle:_write_bundle_cache": "digest",
    "flyte._initialize:_context_init_config.set": "",
    "flyte._initialize:_InitConfig.replace": "",
    "flyte._initialize:get_init_config": "",
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.build": "",
    "flyte._internal.imagebuild.image_builder:ImageBuildEngine.image_exists": "",
    "flyte._internal.runtime.convert:convert_from_inputs_to_native": "native_interface inputs",
    "flyte._internal.runtime.convert:convert_outputs_to_native": "interface outputs",
    "flyte._run:_Runner._run_hybrid": "",
    "flyte._run:_Runner._run_local": "",
    "flyte._run:_Runner.rerun.fn": "run_name action_name",
    "flyte._utils.async_cache:ThreadSafeCache.get_or_compute": "key factory",
    "flyte.io._dataframe.dataframe:DataFrameTransformerEngine.to_literal": "python_val",
    "flyte.models:NativeInterface": "inputs outputs _remote_defaults",
    "flyte.models:NativeInterface.convert_to_kwargs": "args kwargs",
    "flyte.models:NativeInterface.json_schema": "",
    "flyte.remote:Action.wait": "quiet wait_for",
    "flyte.remote:ActionInputs.__repr__": "",
    "flyte.remote:ActionOutputs.__new__": "pb2 data",
    "flyte.remote._auth_metadata:get_auth_metadata": "",
    "flyte.remote:Run.__post_init__": "",
    "flyte.remote._client.controlplane:ClusterAwareDataProxy.get_action_data": "request",
    "flyte.remote._client.controlplane:SessionConfig": (
        "endpoint insecure interceptors http_client tls_ca_cert"
    ),
    "flyte.remote._client.controlplane:SessionConfig.connect_kwargs": "",
    "flyte.remote._client.controlplane:create_session_config": "endpoint auth_endpoint",
    "flyte.remote._client.controlplane:ClientSet.dataproxy_service": "",
    "flyte.remote._client.controlplane:ClientSet.endpoint": "",
    "flyte.remote._client.controlplane:ClientSet.session_config": "",
    "flyte.remote._data:hash_file": "file_path",
    "flyte.remote._data:httpx.AsyncClient": "verify timeout",
    "flyte.remote._data:httpx.AsyncClient.send": "request stream",
    "flyte.remote._logs:AppLogs.tail.fn": "app_id",
    "flyte.remote._logs:Logs.tail.fn": "action_id attempt",
    "flyte.remote._run:filtering": "created_by_subject filters",
    "flyte.remote._task:LazyEntity": "name getter",
    "flyte.remote._task:LazyEntity._getter": "",
    "flyte.remote._task:LazyEntity.fetch": "",
    "flyte.remote._task:LazyEntity.override": "",
    "flyte.storage:get_underlying_filesystem": "path",
    "flyte.storage:is_remote": "path",
    "flyte.storage._storage:get_underlying_filesystem": "path",
    "flyte.syncify:syncify._bg_loop.call_in_loop_sync": "coro",
    "flyte.syncify:syncify._bg_loop.is_in_loop": "",
    "flyte.syncify:syncify._bg_loop.iterate_in_loop_sync": "async_gen",
    "flyte.types:TypeEngine.dict_to_literal_map": "d type_hints",
    "flyte.types:TypeEngine.guess_python_type": "flyte_type",
    "flyte.types:TypeEngine.guess_python_types": "flyte_variable_list",
    "flyte.types:TypeEngine.literal_map_to_kwargs": "lm python_types literal_types",
    "flyte.types:TypeEngine.to_literal": "python_val python_type expected",
    "flyte.types:TypeEngine.to_literal_type": "python_type",
    "flyte.types:TypeEngine.to_python_value": "lv expected_python_type",
    "flyte.types:TypeEngine.unwrap_offloaded_literal": "lv",
    "flyte.types:guess_interface": "",
    "flyte.types._pickle:DEFAULT_PICKLE_BYTES_LIMIT": "",
    "flyte.types._pickle:FlytePickle.from_pickle": "uri",
    "flyte.types._pickle:FlytePickleTransformer.to_python_value": "lv",
}
"""The parts of the SDK that are changed or used here, with the parameters they must have."""

part = functools.cache(resolve_name)
"""Return a part of the SDK by its name, as in `SDK_NAMES`."""


def is_there(name: str, parameters: str) -> bool:
    """Tell whether the installed flyte has this name, with these parameters."""
    try:
        found = resolve_name(name)
    except ImportError:
        return False
    except AttributeError:
        owner, _, attribute = name.rpartition(".")
        with suppress(ImportError, AttributeError):  # of instances: their constructor sets it
            code = dis.get_instructions(resolve_name(owner).__init__.__code__)
            return any((each.opname, each.argval) == ("STORE_ATTR", attribute) for each in code)
        return False
    return not parameters or {*parameters.split()} <= {*inspect.signature(found).parameters}


def forwarded_credentials() -> tuple[tuple[str, str], ...]:
    """Return the headers with which Flyte is called as the caller."""
    found: tuple[tuple[str, str], ...] = part("flyte.remote._auth_metadata:get_auth_metadata")()
    return found


def initialised() -> Any:
    """Return the configuration from the last ``flyte.init*`` in this process, for `act_in`.

    Raises:
        flyte.errors.InitializationError: Flyte has not been initialised.
        RuntimeError: Flyte was initialised before `make_safe`.
    """
    config = part("flyte._initialize:get_init_config")()
    is_safe = hasattr(config.client.session_config.interceptors[-1], "acts_as_the_caller")
    if not is_safe:
        raise RuntimeError("initialise Flyte in the app's lifespan, not before the app starts")
    return config


def act_in(config: Any, project: str | None = None, domain: str | None = None) -> None:
    """Use this configuration for calls to Flyte from here on, in the current context."""
    if project or domain:
        config = config.replace(project=project or config.project, domain=domain or config.domain)
    part("flyte._initialize:_context_init_config").set(config)
