"""The file by itself, as people copy it into their apps."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import TEMPLATE, middleware_file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with only a copy of the file."""
    shutil.copy(middleware_file(), tmp_path / "passthrough_auth.py")
    return tmp_path


def test_it_imports_nothing_but_the_standard_library_starlette_and_flyte() -> None:
    modules = set()
    for node in ast.walk(ast.parse(middleware_file().read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(node.module or "")
    outside = {name for name in modules if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in outside} == {"flyte", "starlette"}
    assert not [name for name in outside if any(part.startswith("_") for part in name.split("."))]


def test_it_contains_no_jinja() -> None:
    assert not re.search(r"\{[{%#]", middleware_file().read_text("utf-8"))


def test_the_page_lists_its_version_and_hash() -> None:
    if os.environ.get("PASSTHROUGH_AUTH_FILE"):
        pytest.skip("PASSTHROUGH_AUTH_FILE names a copy; the page lists the original")
    text = middleware_file().read_text("utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    [version] = re.findall(r"\A# passthrough_auth (\d+\.\d+\.\d+): ", text)
    page = (TEMPLATE / "docs" / "copying-the-middleware.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d+\.\d+\.\d+) \| `([0-9a-f]{64})` \|", page, re.MULTILINE)
    assert listed[0] == (version, digest), "put the new version and hash in the page's table"


PYTHONS = {
    "callbacks of the collector are not called": (
        "gc.callbacks = []",
        "what the garbage collector finalises would have a caller's credentials",
    ),
    "contexts that are entered from C have no effect": (
        """
class Ignored: PyContext_Enter = PyContext_Exit = staticmethod(lambda _: 0)
ctypes.pythonapi = Ignored
""",
        "what the garbage collector finalises would have a caller's credentials",
    ),
    "and threads start in a copy of the context, as free-threaded Python 3.14 does": (
        """
gc.callbacks = []
class Thread(threading.Thread):
    def start(self):
        self.run = functools.partial(contextvars.copy_context().run, self.run)
        super().start()
threading.Thread = Thread
""",
        "what the garbage collector finalises and a new thread would have a caller's credentials",
    ),
}
KEEPING = """
variables = [contextvars.ContextVar(name, default=None) for name in {names!r}]
@contextlib.contextmanager
def auth_metadata(*pairs):
    tokens = [(each, each.set(pairs)) for each in variables]
    yield
    for each, token in tokens:
        each.reset(token)
remote.auth_metadata = auth_metadata
"""
FLYTES = {
    "in no variable": (KEEPING.format(names=""), "auth_metadata sets 0 variables"),
    "in another variable": (KEEPING.format(names="a"), ""),
    "in two variables": (KEEPING.format(names="ab"), "auth_metadata sets 2 variables"),
}


def import_after(script: str, directory: Path) -> str:
    """Import the file in a separate process, after some changes; return why that failed."""
    script = f"""
import contextlib, contextvars, ctypes, functools, gc, sys, threading
from importlib.metadata import version
from flyte import remote
{script}
try:
    import passthrough_auth
except ImportError as error:
    versions = f"Python {{sys.version.split()[0]}}, flyte {{version('flyte')}}"
    print(str(error).replace(versions, "VERSIONS"))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("cannot isolate callers (VERSIONS): ")


@pytest.mark.parametrize(("change", "refusal"), PYTHONS.values(), ids=PYTHONS)
def test_it_refuses_to_be_imported_if_python_does_not_isolate_callers(
    directory: Path, change: str, refusal: str
) -> None:
    assert import_after(change, directory) == refusal


@pytest.mark.parametrize(("change", "refusal"), FLYTES.values(), ids=FLYTES)
def test_it_refuses_to_be_imported_if_it_cannot_find_where_flyte_keeps_credentials(
    directory: Path, change: str, refusal: str
) -> None:
    assert import_after(change, directory) == refusal
