"""``make mutants``: mutate the middleware, and check that its tests fail.

Usage: python tools/mutants.py [function ...]

mutmut creates the mutants. For each mutant, a fork of this process runs pytest, except the tests
that start servers. Forks need Linux or macOS, and save the time for imports. Tests that failed for
an earlier mutant run first. The command prints the surviving mutants, and fails if the share of
survivors exceeds `SURVIVORS`. Some survivors are equivalent to the original code.
"""

import difflib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import libcst
import pytest
from mutmut.mutation.file_mutation import create_mutations, deep_replace

ROOT = Path(__file__).resolve().parents[1]
MIDDLEWARE = ROOT / "{{cookiecutter.project_slug}}" / "passthrough" / "passthrough_auth.py"
SURVIVORS = 0.06
"""Maximum share of surviving mutants."""
SLOW = ("sdk_class", "sockets", "wire")
TESTS = [
    f"{ROOT}/tests/middleware",
    *(f"--ignore={ROOT}/tests/middleware/test_{name}.py" for name in SLOW),
    "-qq",
    "--tb=no",
]
SECONDS = 120
"""Timeout for the tests of one mutant."""


def mutants(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield a description and the source of each mutant. The description has function and diff."""
    source = MIDDLEWARE.read_text("utf-8")
    module, mutations, *_ = create_mutations(str(MIDDLEWARE), source)
    for mutation in mutations:
        owner = mutation.contained_by_top_level_function
        name = owner.name.value if isinstance(owner, libcst.FunctionDef) else "module"
        if name in (names or [name]):
            mutated = deep_replace(module, mutation.original_node, mutation.mutated_node)
            assert isinstance(mutated, libcst.Module)
            lines = source.splitlines(keepends=True), mutated.code.splitlines(keepends=True)
            _, _, *diff = difflib.unified_diff(*lines, n=0)
            yield "".join([f"{name}\n", *diff]), mutated.code


def survives(source: str, folder: str) -> bool:
    """Run the tests with this source in a fork; return whether all pass."""
    copy = Path(folder, "passthrough_auth.py")
    copy.write_text(source, "utf-8")
    if not (fork := os.fork()):
        signal.alarm(SECONDS)
        os.environ["PASSTHROUGH_AUTH_FILE"] = str(copy)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        options = ["-x", "--failed-first", f"--override-ini=cache_dir={folder}/cache"]
        os._exit(pytest.main([*TESTS, *options, f"--basetemp={folder}/tests"]))
    return os.waitpid(fork, 0)[1] == 0


def main(names: list[str]) -> bool:
    """Test all mutants, or those of the named functions; return whether too many survive."""
    pytest.main([*TESTS, "--collect-only", "-pno:cacheprovider"])
    with TemporaryDirectory() as folder:
        assert survives(MIDDLEWARE.read_text("utf-8"), folder), "tests fail without a change"
        tried = [(diff, survives(mutant, folder)) for diff, mutant in mutants(names)]
    survivors = [diff for diff, alive in tried if alive]
    print(*sorted(survivors), f"{len(survivors)} of {len(tried)} survive", sep="\n")
    return len(survivors) > SURVIVORS * len(tried)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
