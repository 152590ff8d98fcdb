"""Mutate the middleware and other modules, and see whether tests in this process notice.

Usage: python -m tests.mutants.run [function ...]   (not part of `make test`: it takes minutes)

mutmut knows what to change. Its own runner has pytest collect the tests again for each mutant. Here
pytest collects them once, and a fork of this process (so it needs Linux or macOS) runs them with
each mutant, first those that noticed one before. Every mutant that survives must be explained in
README.md beside this file, and nothing else may be; otherwise the command fails.
"""

import difflib
import gc
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FunctionType

import libcst
import pytest
from mutmut.mutation.file_mutation import create_mutations, deep_replace

TESTS = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("README.md")
PASSTHROUGH = TESTS.parent / "{{cookiecutter.project_slug}}" / "passthrough"
MIDDLEWARE = PASSTHROUGH / "passthrough_auth.py"
MODULES = {
    MIDDLEWARE: TESTS / "middleware",
    PASSTHROUGH / "calls" / "errors.py": TESTS / "passthrough" / "test_errors.py",
    PASSTHROUGH / "requests" / "credentials.py": TESTS / "passthrough" / "test_credentials.py",
    PASSTHROUGH / "requests" / "problems.py": TESTS / "passthrough" / "test_problems.py",
}
"""The modules that are mutated, and the tests of each."""
ONLY = {"problems.py": ["of_exception"]}  # the rest of it is tested over the wire
SLOW = {"_started_flyte", "test_sockets.py", "test_properties.py", "test_wire.py"}
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
        if name in (names or ONLY.get(path.name, [name])):
            mutated = deep_replace(module, mutation.original_node, mutation.mutated_node)
            assert isinstance(mutated, libcst.Module)
            lines = difflib.ndiff(source.splitlines(), mutated.code.splitlines())
            diff = [f"{line[0]} {line[2:].strip()}\n" for line in lines if line[0] in "+-"]
            yield "".join([f"@@ {name}\n", *diff]), mutated.code


class Runner:
    """A pytest plugin that runs the collected tests once for each mutant."""

    def __init__(self, names: list[str], copy: Path) -> None:
        self.names, self.copy = names, copy
        self.survivors: set[str] = set()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests of each module without a change, which must pass, then with each mutant."""
        self.functions = [each for each in gc.get_objects() if type(each) is FunctionType]
        gc.freeze()  # forks share what the collector does not touch
        for path, folder in MODULES.items():
            tests = [
                item
                for item in session.items
                if isinstance(item, pytest.Function) and item.path.is_relative_to(folder)
                if not SLOW & {*item.fixturenames, item.path.name}
                if "sdk" not in re.split(r"\W", item.name)  # the SDK's middleware
            ]
            tests.sort(key=lambda test: test.path.stem == "test_copied_alone")  # it starts Pythons
            assert self.survives(path, path.read_text("utf-8"), tests), f"{folder} fails"
            mutants = list(mutants_of(path, self.names))
            print(f"{path.name}: {len(mutants)} mutants", flush=True)
            self.survivors |= {diff for diff, new in mutants if self.survives(path, new, tests)}
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
    """Try all mutants, or those of some functions; return 0 if the page explains the survivors."""
    with TemporaryDirectory() as folder:
        runner = Runner(names, Path(folder, "passthrough_auth.py"))
        options = ["-qs", "-pno:cacheprovider", "-pno:faulthandler", f"--basetemp={folder}/tests"]
        failed = pytest.main([*options, *map(str, MODULES.values())], plugins=[runner])
    page = PAGE.read_text("utf-8")
    explained = set(re.findall(r"^@@ .+\n(?:[-+] .*\n)+", page, re.MULTILINE))
    wrong = {*runner.survivors - explained, *(() if names else explained - runner.survivors)}
    for diff in sorted(wrong):
        print("explained, but noticed:" if diff in explained else "not explained:", diff, sep="\n")
    return int(failed or bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
