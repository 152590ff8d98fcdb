"""Shared fixtures: a local Flyte, the SDK made safe, and apps with a few endpoints each.

A test module defines its endpoints as ``router``; ``alice`` and the other clients call that app.
"""

import functools
import logging
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, ended, long_run, serving, start
from passthrough.calls.make_safe import make_safe
from passthrough.extras import watching

from .fake_execution import fake_execution
from .stub_servers import StubServer
from .support import AccessLog, Called, Received, build_app


@pytest.fixture
def anyio_backend() -> str:
    """Run coroutine tests with asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def _started_flyte() -> Iterator[LocalFlyte]:
    with LocalFlyte() as local_flyte:
        local_flyte.deploy(Path(__file__).parent, "flyte_tasks.py", "env")
        with fake_execution(local_flyte):
            yield local_flyte


@pytest.fixture(scope="session")
def _safe_sdk() -> None:
    """Make the SDK safe, as an app does when it starts, for all later tests of this process."""
    make_safe()


@pytest.fixture(scope="module")
def local_flyte(_started_flyte: LocalFlyte, _safe_sdk: None) -> Iterator[LocalFlyte]:
    """The local Flyte, with only the tests' tasks; the environment has its address."""
    _started_flyte.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FLYTE_ENDPOINT", raising=False)  # it would take precedence
        patch.setattr(watching, "QUIET_SECONDS", 0.5)  # until a watch ends, after its run
        patch.setattr(watching, "REOPEN_SECONDS", 0.05)
        for name, value in _started_flyte.app_environment().items():
            patch.setenv(name, value)
        yield _started_flyte


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, local_flyte: LocalFlyte) -> Iterator[str]:
    """The address of an app with the module's ``router``, and with its ``SETTINGS``, if any."""
    settings = getattr(request.module, "SETTINGS", {})
    with serving(build_app(request.module.router, **settings)) as url:
        yield url


@pytest.fixture(scope="module")
def short_timeout(request: Any, local_flyte: LocalFlyte) -> Iterator[httpx.Client]:
    """Alice's client of an app with a short timeout for Flyte."""
    app = build_app(request.module.router, flyte_timeout=1.0)
    with serving(app) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def greeting(local_flyte: LocalFlyte) -> str:
    """The name of a run by alice that has succeeded."""
    return ended(start("tests.greet", name="Ada"))


@pytest.fixture(scope="module")
def counting(local_flyte: LocalFlyte) -> Iterator[str]:
    """The name of a run by alice that does not end."""
    with long_run("tests.count", to=100_000) as run:
        yield run


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that makes `family` fail as long as it exists."""
    (file := tmp_path_factory.mktemp("family") / "broken").touch()
    return file


@pytest.fixture(scope="module")
def family(local_flyte: LocalFlyte, broken: Path) -> str:
    """A run of three children: one stumbles once, one fails. It has just started."""
    return start("tests.family", broken=str(broken))


@pytest.fixture(scope="module")
def certificate(
    local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A server's certificate from an authority that the app trusts besides Flyte's."""
    folder, authority = tmp_path_factory.mktemp("stub"), trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    trusted = Path(os.environ["SSL_CERT_FILE"]).read_bytes() + authority.cert_pem.bytes()
    (folder / "trusted.pem").write_bytes(trusted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "trusted.pem"))
        yield folder / "server.pem"


@pytest.fixture(scope="module")
def stub(certificate: Path) -> Iterator[StubServer]:
    """Serve a stub with TLS on Flyte's host. It offers HTTP/2, but cannot speak it."""

    def tls(_: object, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        (context := default()).set_alpn_protocols(["h2", "http/1.1"])
        return context

    server = StubServer()
    options: dict[str, Any] = {"ssl_certfile": certificate, "ssl_context_factory": tls}
    with serving(server, lifespan="off", timeout_keep_alive=300, **options) as server.address:
        yield server


@pytest.fixture(scope="module")
def plain_stub() -> Iterator[StubServer]:
    """Serve a stub without TLS."""
    server = StubServer()
    with serving(server, lifespan="off") as server.address:
        yield server


@pytest.fixture(scope="module")
def stub_client(request: Any, stub: StubServer) -> Iterator[httpx.Client]:
    """Alice's client of an app that uses the stub as Flyte."""
    app = build_app(request.module.router, flyte_endpoint=stub.address)
    with serving(app) as url, client_of(url, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def probe(local_flyte: LocalFlyte, certificate: Path) -> Iterator[httpx.Client]:
    """Alice's client of an app in a process of its own, which counts Flyte's messages."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(
            [sys.executable, "-m", "tests.passthrough.memory_probe", str(server.fileno())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[server.fileno()],
        ) as process,
        client_of(f"http://127.0.0.1:{server.getsockname()[1]}", "alice") as client,
    ):
        try:
            yield client
        finally:
            process.terminate()


@pytest.fixture
def called(received: Received) -> Called:
    """Return a function that counts the calls of a method of Flyte since the start of the test."""
    return lambda method: sum(call.method == method for call in received())


@pytest.fixture
def access_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> AccessLog:
    monkeypatch.setattr(logging.getLogger("app.access"), "propagate", True)
    caplog.set_level(logging.INFO, "app.access")
    return lambda: [vars(one)["fields"] for one in caplog.records if one.name == "app.access"]


@pytest.fixture
def log(local_flyte: LocalFlyte, stub: StubServer) -> Iterator[Callable[..., None]]:
    """Yield a function that sets the bytes of the log that the cluster sends."""
    with local_flyte.cluster_at(stub.address):
        yield functools.partial(stub.answers, kind="connect+proto")
