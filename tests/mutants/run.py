"""Mutate the middleware and `values`, and see whether tests in this process notice.

Usage: python -m tests.mutants.run [function ...]   (not part of `make test`: it takes minutes)

mutmut knows what to change. Its own runner has pytest collect the tests again for each mutant. Here
pytest collects them once, and a fork of this process (so it needs Linux or macOS) runs them with
each mutant, first those that noticed one before. The command prints the mutants that survive, and
fails if they are more of a module's mutants than `TARGETS` allows. README.md says what they are.
"""

import difflib
import gc
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FunctionType
from typing import NamedTuple

import libcst
import pytest
from mutmut.mutation.file_mutation import create_mutations, deep_replace

TESTS = Path(__file__).resolve().parents[1]
PASSTHROUGH = TESTS.parent / "{{cookiecutter.project_slug}}" / "passthrough"
MIDDLEWARE = PASSTHROUGH / "passthrough_auth.py"
VALUES = ("test_literals.py", "test_hostile_literals.py", "test_own_values.py")


class Target(NamedTuple):
    """How to test a module's mutants."""

    tests: list[Path]
    """Files and folders of tests."""
    one_of: int
    """Which share of the mutants is tried: one of so many."""
    survivors: float
    """The share of the tried mutants that may survive."""


TARGETS = {MIDDLEWARE: Target([TESTS / "middleware"], one_of=1, survivors=0.06)} | {
    PASSTHROUGH / "values" / module: Target(
        [TESTS / "passthrough" / name for name in VALUES], one_of=20, survivors=0.5
    )
    for module in ("budget.py", "inputs.py", "outputs.py", "schemas.py")
}
SLOW = {"_started_flyte", "test_sockets.py", "test_properties.py", "test_wire.py", "test_sdk.py"}
"""Fixtures and files of tests not to run."""
SECONDS = 60  # of CPU for the tests of one mutant; they may wait ten times as long


def mutants_of(path: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what each mutant changes, a function and its lines, and the mutant's source."""
    source = path.read_text("utf-8")
    module, mutations, *_ = create_mutations(str(path), source)
    for mutation in mutations:
        owner = mutation.contained_by_top_level_function
        name = owner.name.value if isinstance(owner, libcst.FunctionDef) else "module"
        if name == "module" and path != MIDDLEWARE:
            continue  # other modules are imported once: only functions can be replaced
        if name in (names or [name]):
            mutated = deep_replace(module, mutation.original_node, mutation.mutated_node)
            assert isinstance(mutated, libcst.Module)
            lines = difflib.ndiff(source.splitlines(), mutated.code.splitlines())
            diff = [f"{line[0]} {line[2:].strip()}\n" for line in lines if line[0] in "+-"]
            yield "".join([f"@@ {name}\n", *diff]), mutated.code


class Runner:
    """A pytest plugin that runs the collected tests once for each mutant."""

    def __init__(self, names: list[str], copy: Path) -> None:
        self.names, self.copy = names, copy
        self.too_many: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests of each module without a change, which must pass, then with each mutant."""
        self.functions = [each for each in gc.get_objects() if type(each) is FunctionType]
        gc.freeze()  # forks share what the collector does not touch
        for path, target in TARGETS.items():
            tests = [
                item
                for item in session.items
                if isinstance(item, pytest.Function)
                if any(item.path.is_relative_to(place) for place in target.tests)
                if not SLOW & {*item.fixturenames, item.path.name}
            ]
            assert self.survives(path, path.read_text("utf-8"), tests), f"{path.name}: tests fail"
            mutants = list(mutants_of(path, self.names))[:: 1 if self.names else target.one_of]
            survivors = [diff for diff, new in mutants if self.survives(path, new, tests)]
            print(*sorted(survivors), f"{path.name}: {len(survivors)} of {len(mutants)} survive")
            sys.stdout.flush()
            if len(survivors) > target.survivors * len(mutants):
                self.too_many.append(path.name)
        return True

    def survives(self, path: Path, source: str, tests: list[pytest.Function]) -> bool:
        """Run tests in a fork with a module's source; one that fails becomes the first of them."""
        end, self.pipe = os.pipe()
        if not (fork := os.fork()):
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
                signal.alarm(10 * SECONDS)
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                self.replace(path, source)
                for test, following in zip(tests, [*tests[1:], None], strict=True):
                    test.ihook.pytest_runtest_protocol(item=test, nextitem=following)
                os._exit(0)
            finally:
                os._exit(2)
        os.close(self.pipe)
        with os.fdopen(end) as pipe:
            failed = pipe.read()
        tests.sort(key=lambda test: test.nodeid != failed)
        return os.waitpid(fork, 0)[1] == 0

    def replace(self, path: Path, source: str) -> None:
        """Replace the code of a module's functions; the middleware's tests import it themselves."""
        codes = [compile(source, str(path), "exec", dont_inherit=True)]
        for code in codes:
            codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
        mutated = {code.co_qualname: code for code in codes}
        for function in self.functions:
            if function.__code__.co_filename == str(path):
                function.__code__ = mutated[function.__code__.co_qualname]
        if path == MIDDLEWARE:
            self.copy.write_text(source, "utf-8")
            os.environ["PASSTHROUGH_AUTH_FILE"] = str(self.copy)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In a fork: report the first test that fails, and end."""
        if report.failed:
            os.write(self.pipe, report.nodeid.encode())
            os._exit(1)


def main(names: list[str]) -> int:
    """Try the mutants, or all those of some functions; return 0 unless too many survive."""
    places = {str(place) for target in TARGETS.values() for place in target.tests}
    with TemporaryDirectory() as folder:
        runner = Runner(names, Path(folder, "passthrough_auth.py"))
        options = ["-qs", "-pno:cacheprovider", "-pno:faulthandler", f"--basetemp={folder}/tests"]
        failed = pytest.main([*options, "-m", "not weekly", *places], plugins=[runner])
    if runner.too_many:
        print("more survive than TARGETS allows:", *runner.too_many)
    return int(failed or bool(runner.too_many))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
