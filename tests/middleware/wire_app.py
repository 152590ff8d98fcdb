"""An app that calls Flyte, started by test_wire.py. It prints its port.

Usage: python wire_app.py (sdk | PATH-OF-THE-MIDDLEWARE-FILE) ENDPOINT CA-FILE
"""

import importlib.util
import socket
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flyte
    from flyte import remote
    from flyte.app.extras import FastAPIPassthroughAuthMiddleware


def _middleware(which: str) -> Any:
    if which == "sdk":
        return FastAPIPassthroughAuthMiddleware
    spec = importlib.util.spec_from_file_location("passthrough_auth", which)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FastAPIPassthroughAuthMiddleware


async def _me(request: Request) -> JSONResponse:
    user = await remote.User.get.aio()
    return JSONResponse({"subject": user.subject()})


def main(which: str, endpoint: str, ca_file: str) -> None:
    """Serve ``/me`` until killed."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await flyte.init.aio(endpoint=endpoint, auth_type="Passthrough", ca_cert_file_path=ca_file)
        yield

    app = Starlette(
        routes=[Route("/me", _me)],
        middleware=[Middleware(_middleware(which))],
        lifespan=lifespan,
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, http="httptools", log_level="warning", timeout_keep_alive=120)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
