"""Mutate the middleware, and see whether tests in this process notice.

Usage: python -m tests.mutants.run [function ...]   (not part of `make test`: it takes minutes)

mutmut knows what to change. Its own runner has pytest collect the tests again for each mutant. Here
pytest collects them once, and a fork of this process (so it needs Linux or macOS) runs them with
each mutant, first those that noticed one before. The command prints the mutants that survive, and
fails if they are more than `SURVIVORS`. README.md says what they are.
"""

import difflib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import libcst
import pytest
from mutmut.mutation.file_mutation import create_mutations, deep_replace

TESTS = Path(__file__).resolve().parents[1]
MIDDLEWARE = TESTS.parent / "{{cookiecutter.project_slug}}" / "passthrough" / "passthrough_auth.py"
SURVIVORS = 0.06
"""The share of the mutants that may survive."""
SLOW = {"_started_flyte", "test_sockets.py", "test_properties.py", "test_wire.py", "test_sdk.py"}
"""Fixtures and files of tests not to run."""
SECONDS = 60  # of CPU for the tests of one mutant; they may wait ten times as long


def mutants(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what each mutant changes, a function and its lines, and the mutant's source."""
    source = MIDDLEWARE.read_text("utf-8")
    module, mutations, *_ = create_mutations(str(MIDDLEWARE), source)
    for mutation in mutations:
        owner = mutation.contained_by_top_level_function
        name = owner.name.value if isinstance(owner, libcst.FunctionDef) else "module"
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
        self.too_many = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests without a change, which must pass, then with each mutant."""
        self.tests = [
            item
            for item in session.items
            if isinstance(item, pytest.Function)
            if not SLOW & {*item.fixturenames, item.path.name}
        ]
        assert self.survives(MIDDLEWARE.read_text("utf-8")), "tests fail without a change"
        tried = [(diff, self.survives(new)) for diff, new in mutants(self.names)]
        survivors = [diff for diff, survives in tried if survives]
        print(*sorted(survivors), f"{len(survivors)} of {len(tried)} survive")
        self.too_many = len(survivors) > SURVIVORS * len(tried)
        return True

    def survives(self, source: str) -> bool:
        """Run the tests in a fork with this source; one that fails becomes the first of them."""
        end, self.pipe = os.pipe()
        if not (fork := os.fork()):
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
                signal.alarm(10 * SECONDS)
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                self.copy.write_text(source, "utf-8")
                os.environ["PASSTHROUGH_AUTH_FILE"] = str(self.copy)
                for test, following in zip(self.tests, [*self.tests[1:], None], strict=True):
                    test.ihook.pytest_runtest_protocol(item=test, nextitem=following)
                os._exit(0)
            finally:
                os._exit(2)
        os.close(self.pipe)
        with os.fdopen(end) as pipe:
            failed = pipe.read()
        self.tests.sort(key=lambda test: test.nodeid != failed)
        return os.waitpid(fork, 0)[1] == 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In a fork: report the first test that fails, and end."""
        if report.failed:
            os.write(self.pipe, report.nodeid.encode())
            os._exit(1)


def main(names: list[str]) -> int:
    """Try the mutants, or all those of some functions; return 0 unless too many survive."""
    with TemporaryDirectory() as folder:
        runner = Runner(names, Path(folder, "passthrough_auth.py"))
        options = ["-qs", "-pno:cacheprovider", "-pno:faulthandler", f"--basetemp={folder}/tests"]
        tests = str(TESTS / "middleware")
        failed = pytest.main([*options, "-m", "not weekly", tests], plugins=[runner])
    return int(failed or runner.too_many)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
