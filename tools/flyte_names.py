"""Find names that the app needs and flyte lacks, and public names of flyte without a review.

``python tools/flyte_names.py`` needs only flyte, so the script works with any version of flyte.
``make newest-flyte`` runs the script with the newest version. If the script finds such a name, the
exit code is 1.
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
"""Functions of the module ``flyte`` that call the control plane."""


def table_in(file: str, name: str) -> dict[str, str]:
    """Return a dictionary of a source file, without importing the file.

    Values that are not literals become empty strings.
    """
    for node in ast.parse((CALLS / file).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            assert isinstance(node.value, ast.Dict)
            values = (getattr(value, "value", "") for value in node.value.values)
            keys = map(ast.literal_eval, filter(None, node.value.keys))
            return dict(zip(keys, map(str, values), strict=True))
    raise LookupError(name)


def needed() -> dict[str, str]:
    """Return the names in flyte that the app uses or refuses, with the required parameters."""
    return table_in("sdk.py", "SDK_NAMES") | table_in("make_safe.py", "REFUSED")


def is_there(name: str) -> bool:
    """Return whether the installed flyte has the name."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def missing() -> Iterator[str]:
    """Yield the missing names and parameters, without which the app does not start."""
    for name, parameters in needed().items():
        if not is_there(name):
            yield f"{name} is missing"
        elif parameters:
            has = inspect.signature(resolve_name(name)).parameters
            if gone := [one for one in parameters.split() if one not in has]:
                yield f"{name} has no parameter {', '.join(gone)}"


def public() -> set[str]:
    """Return the public names of the installed flyte: functions, classes, and their methods."""
    names = {f"flyte.{name}" for name in FUNCTIONS}
    for name in remote.__all__:
        member = getattr(remote, name)
        methods = {
            f"{name}.{own.name}"
            for own in (inspect.classify_class_attrs(member) if inspect.isclass(member) else ())
            if own.defining_class.__module__.startswith("flyte")
            and not own.name.startswith(("_", "typed_"))
            and (callable(own.object) or own.kind in {"class method", "static method"})
        }
        names |= methods or {name}
    return names


def reviewed() -> dict[str, str]:
    """Return the public names that have been reviewed, with the result of the review."""
    table = data("flyte_remote")
    refused = (name.removeprefix("flyte.remote:") for name in table_in("make_safe.py", "REFUSED"))
    differing = [name for row in table["rows"] for name in row["names"]]
    return (
        dict.fromkeys(table["as_documented"].split(), "as documented")
        | dict.fromkeys(refused, "refused")
        | dict.fromkeys(differing, "differs")
    )


def findings() -> list[str]:
    """Return the missing names, and the public names that have not been reviewed."""
    names, results = public(), reviewed()
    return [
        *(f"The app does not start, because {problem}." for problem in missing()),
        *(
            f"{name} is new; check that it is safe with many callers."
            for name in sorted(names - {*results})
        ),
        *(
            f"{name} was removed from flyte; remove it from docs/tables/flyte_remote.toml."
            for name, result in results.items()
            if result != "refused" and name not in names and not is_there(f"flyte.remote:{name}")
        ),
    ]


if __name__ == "__main__":
    messages = findings()
    lacking = [*missing()]
    print(f"flyte {flyte.__version__} has {len(needed()) - len(lacking)} of {len(needed())} names.")
    for line in messages:
        print(f"- {line}")
    sys.exit(bool(messages))
