"""An app that calls Flyte, started by test_wire.py. It prints its port.

Usage: python wire_app.py PATH-OF-THE-MIDDLEWARE-FILE ENDPOINT CA-FILE
"""

import importlib
import socket
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"subject": (await remote.User.get.aio()).subject()})


def main(file: str, endpoint: str, ca_file: str) -> None:
    """Serve ``/me`` until killed."""
    sys.path.insert(0, str(Path(file).parent))
    ours = importlib.import_module(Path(file).stem).FastAPIPassthroughAuthMiddleware

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await flyte.init.aio(endpoint=endpoint, auth_type="Passthrough", ca_cert_file_path=ca_file)
        yield

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        routes, middleware = [Route("/me", me)], [Middleware(ours)]
        app = Starlette(routes=routes, middleware=middleware, lifespan=lifespan)
        config = uvicorn.Config(app, http="httptools", log_level="warning", timeout_keep_alive=120)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
