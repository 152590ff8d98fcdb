"""Every public name of the SDK that apps use is in a table, shown in docs/flyte-remote.md.

To regenerate the page, run this file as a module, with the template's folder in PYTHONPATH.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote

from passthrough.calls.errors import NotForManyCallersError
from passthrough.calls.make_safe import REFUSED, _sdk_name

from .deployed_tasks import greet

PAGE = Path(__file__).parents[2] / "docs" / "flyte-remote.md"
FUNCTIONS = ("build", "run", "rerun", "with_runcontext")
"""The functions of ``flyte`` itself with which apps build images and start runs."""

JSON = {
    "Action.details": "its inputs and outputs are JSON",
    "ActionDetails.inputs": "a mapping of names to JSON",
    "ActionDetails.outputs": "a tuple of JSON; `named_outputs` is a mapping",
    "ActionDetails.typed_inputs": "only the types that you name are made, by the SDK; no pickles",
    "ActionDetails.typed_outputs": "only the types that you name are made, by the SDK; no pickles",
    "Run.inputs": "a mapping of names to JSON",
    "Run.outputs": "a tuple of JSON; `named_outputs` is a mapping",
    "Run.typed_inputs": "only the types that you name are made, by the SDK; no pickles",
    "Run.typed_outputs": "only the types that you name are made, by the SDK; no pickles",
    "RunDetails.inputs": "a mapping of names to JSON",
    "RunDetails.outputs": "a tuple of JSON; `named_outputs` is a mapping",
    "RunDetails.typed_inputs": "only the types that you name are made, by the SDK; no pickles",
    "RunDetails.typed_outputs": "only the types that you name are made, by the SDK; no pickles",
    "TaskDetails.interface": "its types hold the declared ones; `json_schema` shows them",
    "flyte.run": "inputs of a remote task are JSON, or values of your own; all errors are reported"
    " at once (422). Your own task function takes and returns its declared types",
    "flyte.rerun": "like `flyte.run`: the arguments change the inputs of the earlier run",
}
"""Names that take or return values, and the kind of values."""

CHANGED = {
    "Action.wait": "prints nothing, and ends with its request",
    "Condition.get": "on a real Flyte, by the name of its action: lists have no other name",
    "Condition.listall": "on a real Flyte, without names, prompts and types; `ActionDetails.get`"
    " has them in `pb2.condition`, and who answered in `pb2.signal_info`",
    "Condition.signal": "Flyte records the caller as the one who answered, a moment later",
    "Run.listall": "`created_by_subject` reaches Flyte as the filter that it knows",
    "Run.wait": "prints nothing, and ends with its request",
    "Task.get": "each request fetches the task as its caller, even if it is defined at module"
    " level",
    "auth_metadata": "the middleware calls it; use it only for calls on behalf of somebody else",
    "upload_dir": "it reads files with the app's rights: never pass a path from a caller",
    "upload_file": "it reads the file with the app's rights: never pass a path from a caller",
    "flyte.build": "each caller asks Flyte and gets a separate build; `IMAGE_BUILDER` selects the"
    " builder",
    "flyte.with_runcontext": "as in the docs, except for `mode`. Leave out `name`: for one that was"
    " used before, Flyte returns the old run, and may run it again",
}
"""Names that work as documented, with further notes."""

AS_DOCUMENTED = {
    "Action": "abort done get get_logs listall sync to_dict to_json watch",
    "ActionDetails": "done get get_details get_phase_transitions input_literals logs_available"
    " output_literals to_dict to_json watch watch_updates",
    "ActionInputs": "to_dict to_json",
    "ActionOutputs": "to_dict to_json",
    "App": "activate create deactivate delete ephemeral_ctx ephemeral_ctx_sync get is_active"
    " is_deactivated listall replace to_dict to_json update watch",
    "Artifact": "coerce_to_literal create declare delete get get_schema list_names listall"
    " partition_values to_dict to_json",
    "Condition": "to_dict to_json",
    "PartitionSchema": "from_pb2 to_pb2",
    "Project": "archive create get listall to_dict to_json unarchive update",
    "Run": "abort code_bundle details done first_failure get get_debug_url get_logs input_literals"
    " output_literals raise_for_status sync to_dict to_json watch",
    "RunDetails": "done get get_details input_literals output_literals to_dict to_json",
    "Secret": "create delete get listall to_dict to_json",
    "SecretTypes": "",
    "Settings": "available_keys effective_values get_settings_for_edit local_overrides parse_yaml"
    " scope_description to_dict to_json to_yaml to_yaml_sections update_settings",
    "Task": "listall to_dict to_json",
    "TaskDetails": "fetch get override to_dict to_json",
    "TimeFilter": "",
    "Trigger": "create delete get get_details listall to_dict to_json update",
    "TriggerDetails": "get to_dict to_json",
    "User": "get name subject to_dict to_json",
}
"""Methods by class."""

INTRODUCTION = """# flyte.remote in an app

The parts of the SDK that an endpoint may call, and how they differ from
[Flyte's documentation](https://www.union.ai/docs/v2/flyte/api-reference/flyte-sdk/) once
`passthrough/calls/make_safe.py` has made the SDK safe for many callers. Generated by
`tests/passthrough/test_names.py`, which fails if flyte has a name that is missing here.

Every call ends with its request and reaches Flyte as the request's caller. In an `async def`, write
`.aio`; in a plain `def`, leave it out.
"""


def known() -> dict[str, str]:
    """Return the note on each name; it is empty if the name works as documented."""
    table = {
        f"{owner}.{name}": "" for owner, names in AS_DOCUMENTED.items() for name in names.split()
    }
    table |= dict.fromkeys((owner for owner, names in AS_DOCUMENTED.items() if not names), "")
    table |= {name: f"**JSON**: {what}" for name, what in JSON.items()}
    table |= CHANGED
    return table | {name: f"**refused**: {instead}" for name, instead in REFUSED.items()}


def installed() -> Iterator[str]:
    """Yield the public names of the installed SDK: functions, classes, and their methods."""
    for name in remote.__all__:
        found = getattr(remote, name)
        methods = [*_methods(found)] if inspect.isclass(found) else []
        yield from (f"{name}.{method}" for method in methods)
        if not methods:
            yield name
    yield from (f"flyte.{name}" for name in FUNCTIONS)


def _methods(kind: type) -> Iterator[str]:
    for name in dir(kind):
        owner = next(each for each in kind.__mro__ if name in vars(each) or each is object)
        found = vars(owner).get(name)
        is_method = callable(found) or isinstance(found, classmethod | staticmethod)
        if not name.startswith("_") and owner.__module__.startswith("flyte") and is_method:
            yield name


def page() -> str:
    """Return docs/flyte-remote.md."""
    lines, classes = [INTRODUCTION, "| name | |", "|---|---|"], known()
    same: dict[str, list[str]] = {}
    for name, what in sorted(classes.items(), key=lambda each: (each[0][0].islower(), each[0])):
        if what:
            lines.append(f"| `{name}` | {what} |")
        else:
            owner, _, method = name.partition(".")
            same.setdefault(owner, []).append(f"`{method}`" if method else "")
    lines += ["", "As in Flyte's documentation:", "", "| class | |", "|---|---|"]
    lines += [f"| `{owner}` | {', '.join(filter(None, names))} |" for owner, names in same.items()]
    return "\n".join(lines) + "\n"


def test_every_public_name_of_the_installed_sdk_is_in_the_table() -> None:
    in_table = {name for name in known() if not name.startswith("flyte.io.")}
    in_table -= {"TaskDetails.interface", *MODES}
    assert {*installed()} - in_table == set(), "add these to the table"
    if flyte.__version__ >= "2.12.1":
        assert in_table - {*installed()} == set(), "flyte no longer has these"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "regenerate it: see the top of this file"


MODES = {name for name in REFUSED if name.startswith("flyte.with_runcontext(")}
router = APIRouter()


def in_mode(name: str) -> Any:
    """Return the context of a run that does not run on Flyte."""
    mode: Any = name.split("'")[1]
    return flyte.with_runcontext(mode=mode, name="r1", run_base_dir="/tmp")


@router.get("/refused/{name}")
async def use(name: str) -> str:
    if name in MODES:
        await in_mode(name).run.aio(greet, name="Ada")
    await resolve_name(_sdk_name(name)).aio(None)
    return "not refused"


@router.get("/sync/refused/{name}")
def sync_use(name: str) -> str:
    if name in MODES:
        in_mode(name).run(greet, name="Ada")
    resolve_name(_sdk_name(name))(None)
    return "not refused"


@pytest.mark.parametrize("kind", ["", "/sync"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_call_says_what_to_use_instead(
    alice: httpx.Client, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert alice.get(f"{kind}/refused/{name}").status_code == 500
    assert NotForManyCallersError.__name__ in caplog.text
    assert f"{name} is not available in an app that serves many callers" in caplog.text
    assert REFUSED[name] in caplog.text


if __name__ == "__main__":
    PAGE.write_text(page())
