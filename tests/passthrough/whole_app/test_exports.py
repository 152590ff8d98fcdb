"""The public names of the package: the examples in docstrings."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

import passthrough
from app.routers import me
from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving, start, wait_until

from ..support import build_app

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(passthrough.__path__, "passthrough.")
]
IMPORTS = """
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import flyte
import httpx
import uvicorn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import Body, FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from flyte import remote
from flyte.models import ActionPhase
from pydantic import BaseModel

from passthrough import *
from passthrough.agents import Issuer, OAuthScope, serve_agents
"""
"""The imports that the examples leave out."""


def docstrings(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield the names of a module with their docstrings; a model's includes that of `of`."""
    body = ast.parse(inspect.getsource(module)).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        match node, after:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef(), _:
                methods = [of for of in node.body if getattr(of, "name", "") == "of"]
                texts = [ast.get_docstring(of) for of in (node, *methods)]  # type: ignore[arg-type]
                yield node.name, "\n\n".join(filter(None, texts))
            case (
                ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)),
                ast.Expr(ast.Constant(str(text))),
            ):
                yield name, inspect.cleandoc(text)


def exported() -> set[str]:
    """Return the exports of `passthrough` and `passthrough.agents`."""
    body = ast.parse(inspect.getsource(passthrough)).body
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names} | AGENTS


AGENTS = {"Issuer", "OAuthScope", "serve_agents"}
EXPORTED = exported() - {"Caller"}  # the OpenAPI document contains the docstring of `Caller`
EXPORTS = {
    name: text for module in MODULES for name, text in docstrings(module) if name in EXPORTED
}
EXAMPLES = {
    name: textwrap.dedent(text.partition("Example:\n")[2]) for name, text in EXPORTS.items()
}


@pytest.fixture(scope="module")
def other_app(local_flyte: LocalFlyte) -> Iterator[str]:
    """The URL of an app that the example of `callers_credentials` calls."""
    with serving(build_app(me.router)) as url:
        yield url


@pytest.fixture(scope="module")
def routers(other_app: str) -> dict[str, APIRouter]:
    """The endpoints that the examples define, by the export."""
    made = {}
    for name, code in EXAMPLES.items():
        namespace: dict[str, Any] = {}
        exec(IMPORTS, namespace)
        namespace["router"], namespace["OTHER_APP"] = APIRouter(), other_app
        namespace["settings"] = passthrough.load_settings(passthrough.Settings)
        if ">>>" in code:
            test = doctest.DocTestParser().get_doctest(code, namespace, name, None, None)
            assert doctest.DocTestRunner().run(test).failed == 0
        else:
            exec(code, namespace)
            made[name] = namespace["router"]
    return made


@pytest.fixture(scope="module")
def client(routers: dict[str, APIRouter]) -> Iterator[httpx.Client]:
    app = build_app()
    for name, router in routers.items():
        app.include_router(router, prefix=f"/{name}")
    with serving(app) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def asking(client: httpx.Client) -> tuple[str, str]:
    """A run that waits for an answer, and its condition's action."""
    run = start("tests.ask", prompts=["May I?"])
    questions = f"/fetch_conditions/runs/{run}/questions"
    wait_until(lambda: client.get(questions).json())
    return run, client.get(questions).json()[0]["action"]


def test_each_export_has_an_example() -> None:
    assert sorted(name for name in EXPORTED if not EXAMPLES.get(name)) == []


def test_docstring_examples_serve_requests_without_error(
    routers: dict[str, APIRouter], client: httpx.Client, greeting: str, asking: tuple[str, str]
) -> None:
    for name, router in routers.items():
        for route in router.routes:
            path: Any = route.path  # type: ignore[attr-defined]
            run = "tests.greet" if "/tasks/" in path else greeting
            run, action = asking if "/questions" in path else (run, "a0")
            [method] = route.methods  # type: ignore[attr-defined]
            body = {"name": "Ada"} if method == "POST" else None
            url = f"/{name}{path.format(name=run, action=action)}"
            response = client.request(method, url, json=body)
            assert response.is_success, (url, response.text)
            assert "event: problem" not in response.text
