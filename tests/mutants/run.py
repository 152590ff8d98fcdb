"""Mutate ``passthrough_auth.py`` with mutmut and see whether the in-process suite notices.

Usage: python -m tests.mutants.run   (not part of `make test`: it takes long)

mutmut needs its own project, so this makes one in a temporary directory. Every mutant that survives
must be explained in README.md beside this file, in a code block with its diff; otherwise the
command fails. The arguments are passed on to ``mutmut run``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[2]
MIDDLEWARE = TEMPLATE / "{{cookiecutter.project_slug}}" / "passthrough" / "passthrough_auth.py"
PAGE = Path(__file__).with_name("README.md")
# Tests that start servers or processes are left out: they are slow, and out of mutmut's reach.
LEFT_OUT = ("sockets", "abandoned_streams", "nginx", "wire", "copied_alone")
# mutmut itself sets a context variable, which must not happen while Python 3.11 collects garbage;
# and the checks at import are tested in separate processes, which mutmut does not reach.
NOT_MUTATED = (
    "def _finalise_as_nobody(phase: str, _: dict[str, int]) -> None:",
    "def _check_isolation() -> None:",
)
CONFIGURATION = """
[tool.mutmut]
source_paths = ["src"]
pytest_add_cli_args_test_selection = ["tests/middleware"]
pytest_add_cli_args = ["-x", "-q", "-p", "no:cacheprovider"]

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
"""


def main(arguments: list[str]) -> int:
    """Run mutmut, list the mutants that survived, and return 0 if the page explains them all."""
    page = PAGE.read_text("utf-8")
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        (project / "src").mkdir()
        source = MIDDLEWARE.read_text("utf-8")
        for line in NOT_MUTATED:
            assert source.count(line) == 1
            source = source.replace(line, f"{line}  # pragma: no mutate block")
        (project / "src" / MIDDLEWARE.name).write_text(source, "utf-8")
        ignored = shutil.ignore_patterns("__pycache__", *(f"test_{name}.py" for name in LEFT_OUT))
        shutil.copytree(
            TEMPLATE / "tests" / "middleware", project / "tests" / "middleware", ignore=ignored
        )
        (project / "pyproject.toml").write_text(CONFIGURATION)
        mutmut = [sys.executable, "-m", "mutmut"]
        environment = {**os.environ, "PASSTHROUGH_AUTH_FILE": "src/passthrough_auth.py"}
        subprocess.run([*mutmut, "run", *arguments], cwd=project, env=environment, check=True)
        results = subprocess.run(
            [*mutmut, "results", "--all", "true"],
            cwd=project,
            capture_output=True,
            text=True,
            check=True,
        )
        outcomes = dict(line.strip().split(": ") for line in results.stdout.splitlines() if line)
        diffs = {
            mutant: _diff([*mutmut, "show", mutant], project)
            for mutant, outcome in outcomes.items()
            if outcome not in ("killed", "timeout", "caught by type check")
        }
    counts = {each: list(outcomes.values()).count(each) for each in set(outcomes.values())}
    print(f"{len(outcomes)} mutants:", ", ".join(f"{n} {each}" for each, n in counts.items()))
    unexplained = {mutant: diff for mutant, diff in diffs.items() if diff not in page}
    for mutant, diff in unexplained.items():
        print(f"\n{mutant}: {outcomes[mutant]}, not explained\n{diff}")
    return 1 if unexplained else 0


def _diff(command: list[str], project: Path) -> str:
    """Return the lines that a mutant changes, in the form used in the page."""
    shown = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    lines = shown.stdout.splitlines()
    changed = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return "\n".join(line[0] + " " + line[1:].strip() for line in changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
