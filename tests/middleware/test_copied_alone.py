"""Tests of the file alone, as developers copy it into other apps."""

import ast
import contextvars
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import flyte
import pages
import pytest
from flyte import remote

from .harness import import_copy, middleware_file


def test_middleware_file_imports_only_stdlib_starlette_and_flyte() -> None:
    text = middleware_file().read_text("utf-8")
    assert not re.search(r"\{[{%#]", text)  # no Jinja
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    outside = [name.split(".") for name in modules]
    outside = [parts for parts in outside if parts[0] not in sys.stdlib_module_names]
    assert {parts[0] for parts in outside} == {"flyte", "starlette"}
    assert not [parts for parts in outside if any(part.startswith("_") for part in parts)]


def test_copying_page_lists_current_version_and_hash() -> None:
    if os.environ.get("PASSTHROUGH_AUTH_FILE"):
        pytest.skip("PASSTHROUGH_AUTH_FILE names a copy; the page lists the original")
    text = middleware_file().read_text("utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    [version] = re.findall(r"\A# passthrough_auth (\d+\.\d+\.\d+): ", text)
    listed = pages.data("copying")["versions"][0]
    assert listed == {"version": version, "sha256": digest}, (
        "add the version to docs/tables/copying.toml"
    )


@pytest.mark.parametrize("names", ["", "ab"])
def test_import_fails_if_credential_variable_is_ambiguous(
    monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    variables = [contextvars.ContextVar[Any](name, default=None) for name in names]

    @contextmanager
    def auth_metadata(*pairs: tuple[str, str]) -> Iterator[None]:
        tokens = [(variable, variable.set(pairs)) for variable in variables]
        yield
        for variable, token in tokens:
            variable.reset(token)

    monkeypatch.setattr(remote, "auth_metadata", auth_metadata)
    refusal = f"cannot isolate callers: {len(names)} variables in flyte {flyte.__version__}"
    with pytest.raises(ImportError, match=re.escape(refusal)):
        import_copy("other_flyte")


def test_import_fails_if_threads_inherit_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 has this option; free-threaded Python 3.14 enables it by default."""
    names = {name for name in dir(sys.flags) if name.islower() and not name.startswith("_")}
    flags = {name: getattr(sys.flags, name) for name in names} | {"thread_inherit_context": 1}
    monkeypatch.setattr(sys, "flags", SimpleNamespace(**flags))
    with pytest.raises(ImportError, match="start Python with -X thread_inherit_context=0"):
        import_copy("inheriting")
