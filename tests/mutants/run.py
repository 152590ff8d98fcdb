"""Mutate the middleware and other modules with mutmut, and see whether in-process tests notice.

Usage: python -m tests.mutants.run   (not part of `make test`: it takes long)

mutmut needs its own project, so this makes one for each selection in a temporary directory. Every
mutant that survives must be explained in README.md beside this file, in a code block with its diff;
otherwise the command fails. The arguments are passed on to ``mutmut run``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[2]
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
PAGE = Path(__file__).with_name("README.md")
CONFIGURATION = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = ["tests"]
pytest_add_cli_args = ["-x", "-q", "-p", "no:cacheprovider"]

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib", "-p", "no:schemathesis", "-p", "in_process"]
pythonpath = ["src", "tests/mutants"]
"""


@dataclass
class Selection:
    """Modules to mutate, and the tests of them."""

    folder: str
    """The folder of the project that becomes ``src``."""
    source: tuple[str, ...]
    """Files and folders in it that the tests need."""
    modules: tuple[str, ...]
    """The files in it that are mutated."""
    tests: tuple[str, ...]
    not_mutated: tuple[str, ...] = ()
    """First lines of functions that are left out."""
    names: tuple[str, ...] = ()
    """Patterns of the mutants to try, if not all."""


SELECTIONS = (
    Selection(
        folder="passthrough",
        source=("passthrough_auth.py",),
        modules=("passthrough_auth.py",),
        # Those that start servers or processes are left out: they are out of mutmut's reach.
        tests=tuple(
            f"middleware/{path.name}"
            for path in (TEMPLATE / "tests" / "middleware").glob("*.py")
            if path.stem[5:] not in {"sockets", "nginx", "wire", "copied_alone"}
        ),
        # mutmut itself sets a context variable, which must not happen while Python 3.11 collects
        # garbage; the checks at import are tested in separate processes.
        not_mutated=(
            "def _finalise_as_nobody(phase: str, _: dict[str, int]) -> None:",
            "def _find_metadata_var() -> contextvars.ContextVar[Any]:",
        ),
    ),
    Selection(
        folder=".",
        source=("passthrough", "local_flyte"),
        modules=(
            "passthrough/calls/addresses.py",
            "passthrough/calls/errors.py",
            "passthrough/requests/credentials.py",
            "passthrough/requests/problems.py",
        ),
        tests=tuple(
            f"passthrough/{name}.py"
            for name in (
                "conftest",
                "support",
                "deployed_tasks",
                "test_addresses",
                "test_credentials",
                "test_errors",
                "test_problems",
            )
        ),
        names=(
            "passthrough.calls.*",
            "passthrough.requests.credentials.*",
            # The rest of problems.py is tested over the wire.
            "passthrough.requests.problems.xǁProblemǁof_exception*",
        ),
    ),
)


def main(arguments: list[str]) -> int:
    """Run mutmut, list the mutants that survived, and return 0 if the page explains them all."""
    page, failed = PAGE.read_text("utf-8"), False
    for selection in SELECTIONS:
        with tempfile.TemporaryDirectory() as name:
            prepare(selection, Path(name))
            outcomes, diffs = run(Path(name), [*arguments, *selection.names])
        counts = {each: list(outcomes.values()).count(each) for each in set(outcomes.values())}
        print(f"{len(outcomes)} mutants:", ", ".join(f"{n} {each}" for each, n in counts.items()))
        for mutant, diff in diffs.items():
            if diff not in page:
                failed = True
                print(f"\n{mutant}: {outcomes[mutant]}, not explained\n{diff}")
    return int(failed)


def prepare(selection: Selection, project: Path) -> None:
    """Make a project for mutmut in an empty folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    (project / "src").mkdir()
    for name in selection.source:
        original = PROJECT / selection.folder / name
        if original.is_dir():
            shutil.copytree(original, project / "src" / name, ignore=ignored)
        else:
            shutil.copy(original, project / "src" / name)
    for module in selection.modules:
        mutated = project / "src" / module
        source = mutated.read_text("utf-8")
        for line in selection.not_mutated:
            assert source.count(line) == 1
            source = source.replace(line, f"{line}  # pragma: no mutate block")
        mutated.write_text(source, "utf-8")
    tests = {"__init__.py", "mutants/in_process.py", *selection.tests}
    for path in tests | {str(Path(path).parent / "__init__.py") for path in selection.tests}:
        (project / "tests" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TEMPLATE / "tests" / path, project / "tests" / path)
    modules = [f"src/{module}" for module in selection.modules]
    (project / "pyproject.toml").write_text(CONFIGURATION.format(modules=modules))


def run(project: Path, arguments: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Run mutmut; return the outcome of each mutant tried, and the diff of each that survived."""
    mutmut = [sys.executable, "-m", "mutmut"]
    environment = {**os.environ, "PASSTHROUGH_AUTH_FILE": "src/passthrough_auth.py"}
    subprocess.run([*mutmut, "run", *arguments], cwd=project, env=environment, check=True)
    results = _output([*mutmut, "results", "--all", "true"], project)
    lines = [line.strip() for line in results.splitlines() if not line.endswith("not checked")]
    outcomes = dict(line.split(": ") for line in lines if line)
    diffs = {
        mutant: _diff(_output([*mutmut, "show", mutant], project))
        for mutant, outcome in outcomes.items()
        if outcome not in ("killed", "timeout", "caught by type check")
    }
    return outcomes, diffs


def _output(command: list[str], project: Path) -> str:
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    return done.stdout


def _diff(shown: str) -> str:
    """Return the lines that a mutant changes, in the form used in the page."""
    lines = shown.splitlines()
    changed = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return "\n".join(line[0] + " " + line[1:].strip() for line in changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
