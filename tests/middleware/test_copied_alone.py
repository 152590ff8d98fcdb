"""The file by itself: copied into an empty directory, and used there by apps."""

import ast
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import DEADLINE, TEMPLATE, Connection, middleware_file

SERVE = """
import socket, uvicorn
from app import app
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""

STARLETTE = """
from flyte.remote._auth_metadata import get_auth_metadata
from passthrough_auth import FastAPIPassthroughAuthMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

async def who(request):
    return JSONResponse(dict(get_auth_metadata()))

app = Starlette(
    routes=[Route("/who", who), Route("/health", who)],
    middleware=[Middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={"/health"})],
)
"""

FASTAPI = """
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from flyte.app.extras import FastAPIPassthroughAuthMiddleware
from flyte.remote._auth_metadata import get_auth_metadata

app = FastAPI()
app.add_middleware(
    FastAPIPassthroughAuthMiddleware,
    header_extractors=[
        FastAPIPassthroughAuthMiddleware.extract_authorization_header,
        FastAPIPassthroughAuthMiddleware.extract_custom_header("X-Api-Key"),
    ],
    excluded_paths={"/health", "/docs", "/openapi.json"},
)

def found():
    yield dict(get_auth_metadata())

@app.get("/health")
async def health():
    return dict(get_auth_metadata())

@app.get("/who")
async def who(found: dict = Depends(found)):
    return found

@app.get("/threaded")
def threaded():
    return dict(get_auth_metadata())

@app.get("/stream")
async def stream():
    async def chunks():
        yield str(get_auth_metadata()).ljust(200).encode()
    return StreamingResponse(chunks(), headers={"content-length": "200"})

@app.post("/echo")
async def echo(request: Request):
    return {"length": len(await request.body()), **dict(get_auth_metadata())}
"""

MOUNTED = """
from fastapi import FastAPI
from flyte.remote._auth_metadata import get_auth_metadata
from passthrough_auth import FastAPIPassthroughAuthMiddleware

inner = FastAPI()
inner.add_middleware(FastAPIPassthroughAuthMiddleware, excluded_paths={"/inner/health"})

@inner.get("/who")
async def who():
    return dict(get_auth_metadata())

@inner.get("/health")
async def health():
    return dict(get_auth_metadata())

app = FastAPI()

@app.get("/health")
async def outer_health():
    return dict(get_auth_metadata())

app.mount("/inner", inner)
"""

SDK_IMPORT = "from flyte.app.extras import FastAPIPassthroughAuthMiddleware"
OUR_IMPORT = "from passthrough_auth import FastAPIPassthroughAuthMiddleware"
ALICE = "Authorization: Bearer alice"
BEARER = {"authorization": "Bearer alice"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with only a copy of the file."""
    shutil.copy(middleware_file(), tmp_path / "passthrough_auth.py")
    return tmp_path


@contextmanager
def running(directory: Path, app: str) -> Iterator[Connection]:
    """Serve the app from the directory in a separate process; yield a connection to it."""
    (directory / "app.py").write_text(app)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVE],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        with Connection(int(process.stdout.readline())) as connection:
            yield connection
    finally:
        process.kill()
        process.wait(DEADLINE)
        process.stdout.close()


def test_it_works_in_a_plain_starlette_app(directory: Path) -> None:
    with running(directory, STARLETTE) as connection:
        assert connection.ask("GET", "/who", ALICE).json == BEARER
        assert connection.ask("GET", "/who").status == 401
        assert connection.ask("GET", "/health", ALICE).json == {}


def test_it_works_in_a_fastapi_app_written_for_the_sdks_class(
    directory: Path,
) -> None:
    assert FASTAPI.count(SDK_IMPORT) == 1
    answers = []
    for app in (FASTAPI, FASTAPI.replace(SDK_IMPORT, OUR_IMPORT)):
        with running(directory, app) as connection:
            asked = [
                connection.ask("GET", "/who", ALICE),
                connection.ask("GET", "/who", "X-API-KEY: k", "Cookie: a=b"),
                connection.ask("GET", "/who", "Cookie: a=b"),
                connection.ask("GET", "/who"),
                connection.ask("GET", "/threaded", ALICE, "X-Api-Key: k"),
                connection.ask("GET", "/stream", ALICE),
                connection.ask("POST", "/echo", ALICE, body=b"x" * 100_000),
                connection.ask("GET", "/openapi.json"),
                connection.ask("GET", "/health", ALICE),
            ]
        answers.append([(answer.status, answer.body) for answer in asked])
    sdk, ours = answers
    assert [status for status, _ in ours] == [200, 200, 401, 401, 200, 200, 200, 200, 200]
    assert ours[-1] == (200, b"{}")
    # Only the last one differs: the SDK's class serves an excluded path with the credentials from
    # an earlier large upload on the same connection.
    assert ours[:-1] == sdk[:-1]


def test_it_works_in_a_mounted_app(directory: Path) -> None:
    with running(directory, MOUNTED) as connection:
        assert connection.ask("GET", "/inner/who", ALICE).json == BEARER
        assert connection.ask("GET", "/inner/who").status == 401
        assert connection.ask("GET", "/inner/health", ALICE).json == {}
        assert connection.ask("GET", "/health", ALICE).json == {}


def test_it_imports_nothing_but_the_standard_library_starlette_and_flyte() -> None:
    tree = ast.parse(middleware_file().read_text("utf-8"))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(node.module or "")
    outside = {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names}
    assert {module.split(".")[0] for module in outside} == {"flyte", "starlette"}
    assert not [module for module in outside if any(p.startswith("_") for p in module.split("."))]


def test_it_has_at_most_260_lines_of_code() -> None:
    """Count lines with a token that is neither a comment nor part of a docstring."""
    text = middleware_file().read_text("utf-8")
    layout = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    assert len(lines) <= 260


def test_it_contains_no_jinja() -> None:
    assert not re.search(r"\{[{%#]", middleware_file().read_text("utf-8"))


def test_it_prints_its_version_and_hash_and_the_docs_list_them(
    directory: Path,
) -> None:
    command = [sys.executable, "-W", "ignore", "passthrough_auth.py"]
    told = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    text = middleware_file().read_text("utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    [version] = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert told.stdout == f"passthrough_auth {version} sha256:{digest}\n"
    assert text.startswith(f"# passthrough_auth {version}")
    if not os.environ.get("PASSTHROUGH_AUTH_FILE"):
        page = (TEMPLATE / "docs" / "copying-the-middleware.md").read_text("utf-8")
        listed = re.findall(r"^\| (\d+\.\d+\.\d+) \| `([0-9a-f]{64})` \|", page, re.MULTILINE)
        assert listed[0] == (version, digest), "put the new version and hash in the page's table"


def test_line_ends_do_not_count_as_drift(directory: Path) -> None:
    copy = directory / "passthrough_auth.py"
    command = [sys.executable, "-W", "ignore", str(copy)]
    before = subprocess.run(command, capture_output=True, check=True).stdout
    copy.write_bytes(copy.read_bytes().replace(b"\n", b"\r\n"))
    assert subprocess.run(command, capture_output=True, check=True).stdout == before
    copy.write_bytes(copy.read_bytes() + b"# changed\r\n")
    assert subprocess.run(command, capture_output=True, check=True).stdout != before


PYTHONS = {
    "as it is": "",
    "callbacks of the collector are not called": "gc.callbacks = []",
    "contexts that are entered from C have no effect": """
class Ignored: PyContext_Enter = PyContext_Exit = staticmethod(lambda _: 0)
ctypes.pythonapi = Ignored
""",
    "threads start in a copy of the context, as free-threaded Python 3.14 does": """
class Thread(threading.Thread):
    def start(self):
        self.run = functools.partial(contextvars.copy_context().run, self.run)
        super().start()
threading.Thread = Thread
""",
}


@pytest.mark.parametrize("python", PYTHONS)
def test_it_refuses_to_be_imported_if_python_does_not_isolate_callers(
    directory: Path, python: str
) -> None:
    script = f"""
import contextvars, ctypes, functools, gc, sys, threading
from importlib.metadata import version
from flyte import remote
{PYTHONS[python]}
try:
    import passthrough_auth
except ImportError as error:
    versions = f"Python {{sys.version.split()[0]}}, flyte {{version('flyte')}}"
    print(str(error).replace(versions, "VERSIONS"))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    what = "a new thread" if "threads" in python else "what the garbage collector finalises"
    refusal = f"cannot isolate callers (VERSIONS): {what} would have a caller's credentials\n"
    assert done.stdout == (refusal if PYTHONS[python] else "")


def test_it_refuses_to_be_imported_if_it_cannot_find_where_flyte_keeps_credentials(
    directory: Path,
) -> None:
    """A Flyte whose ``auth_metadata`` stores credentials differently, or in several variables."""
    script = """
import contextlib, contextvars, json
from flyte import remote
kept = [contextvars.ContextVar(name, default=None) for name in "ab"]
outcomes = []
for variables in ([], kept, kept[:1]):
    @contextlib.contextmanager
    def auth_metadata(*pairs):
        for variable in variables:
            variable.set(pairs)
        yield
    remote.auth_metadata = auth_metadata
    try:
        import passthrough_auth
        outcomes.append("imported")
    except ImportError as error:
        outcomes.append(str(error).rpartition(": ")[2])
print(json.dumps(outcomes))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        "auth_metadata sets 0 variables",
        "auth_metadata sets 2 variables",
        "imported",
    ]
