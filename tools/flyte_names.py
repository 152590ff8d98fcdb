"""Say which of the names that the app depends on the installed flyte lacks, and which are new.

``python tools/flyte_names.py`` needs nothing but flyte, so that any version can be asked
(``make newest-flyte`` asks the newest). It exits with 1 if there is anything to do.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from pkgutil import resolve_name

import flyte
from flyte import remote
from pages import PROJECT, data

CALLS = PROJECT / "passthrough/calls"
FUNCTIONS = ("build", "deploy", "rerun", "run", "serve", "with_runcontext")
"""The functions of ``flyte`` itself that call it."""


def table_in(file: str, name: str) -> dict[str, str]:
    """Return a dictionary in a file, which is not imported; only texts in it are read."""
    for node in ast.parse((CALLS / file).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            assert isinstance(node.value, ast.Dict)
            values = (getattr(value, "value", "") for value in node.value.values)
            keys = map(ast.literal_eval, filter(None, node.value.keys))
            return dict(zip(keys, map(str, values), strict=True))
    raise LookupError(name)


def needed() -> dict[str, str]:
    """Return the names that the app uses or refuses, with the parameters that they must have."""
    return table_in("sdk.py", "SDK_NAMES") | table_in("make_safe.py", "REFUSED")


def is_there(name: str) -> bool:
    """Tell whether the installed flyte has something."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def missing() -> Iterator[str]:
    """Yield what the installed flyte lacks of them: the app would not start with it."""
    for name, parameters in needed().items():
        if not is_there(name):
            yield f"{name} is not there"
        elif parameters:
            has = inspect.signature(resolve_name(name)).parameters
            if gone := [one for one in parameters.split() if one not in has]:
                yield f"{name} has no parameter {', '.join(gone)}"


def public() -> set[str]:
    """Return the public names of the installed flyte: functions, classes, and their methods."""
    names = {f"flyte.{name}" for name in FUNCTIONS}
    for name in remote.__all__:
        found = getattr(remote, name)
        methods = {
            f"{name}.{own.name}"
            for own in (inspect.classify_class_attrs(found) if inspect.isclass(found) else ())
            if own.defining_class.__module__.startswith("flyte")
            and not own.name.startswith(("_", "typed_"))
            and (callable(own.object) or own.kind in {"class method", "static method"})
        }
        names |= methods or {name}
    return names


def known() -> dict[str, str]:
    """Return the public names that somebody has looked at, with what was found."""
    told = data("flyte_remote")
    refused = (name.removeprefix("flyte.remote:") for name in table_in("make_safe.py", "REFUSED"))
    differing = [name for row in told["rows"] for name in row["names"]]
    return (
        dict.fromkeys(told["as_documented"].split(), "as documented")
        | dict.fromkeys(refused, "refused")
        | dict.fromkeys(differing, "differs")
    )


def findings() -> list[str]:
    """Return what the installed flyte lacks, and which public names nobody has looked at."""
    found, seen = public(), known()
    return [
        *(f"The app does not start: {what}." for what in missing()),
        *(f"{name} is new: is it safe for many callers?" for name in sorted(found - {*seen})),
        *(
            f"{name} is gone: docs/tables/flyte_remote.toml has it."
            for name, how in seen.items()
            if how != "refused" and name not in found and not is_there(f"flyte.remote:{name}")
        ),
    ]


if __name__ == "__main__":
    told = findings()
    lacking = [*missing()]
    print(f"flyte {flyte.__version__} has {len(needed()) - len(lacking)} of {len(needed())} names.")
    for line in told:
        print(f"- {line}")
    sys.exit(bool(told))
