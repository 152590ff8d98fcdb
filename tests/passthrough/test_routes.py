"""Routes of included routers, which become routes of the app itself when it starts."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Form, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel

from passthrough.application import _direct


class Marking(APIRoute):
    """An owner's own kind of route."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def marked(request: Request) -> Response:
            response: Response = await handle(request)
            response.headers["X-Kind"] = "marking"
            return response

        return marked


class Versioned(APIRoute):
    """One that changes what it is made of."""

    def __init__(self, path: str, *given: Any, **options: Any) -> None:
        super().__init__(f"/v1{path}", *given, **options)


class Item(BaseModel):
    number: int


def marks(response: Response) -> None:
    response.headers["X-Depends"] = "yes"


def number() -> int:
    return 1


def app_with_routers() -> FastAPI:
    inner = APIRouter(route_class=Marking, tags=["inner"], default_response_class=PlainTextResponse)
    outer = APIRouter(prefix="/outer")
    sockets, frontend, around = APIRouter(), APIRouter(), APIRouter()
    limited = APIRouter(form_limits={"max_fields": 1})
    versioned = APIRouter(route_class=Versioned)
    frontend.frontend("/files", directory=Path(__file__).parent)

    @inner.get("/text")
    async def text(request: Request, counted: Annotated[int, Depends(number)]) -> str:
        return str(counted) + getattr(request.scope["route"], "kept", "")

    @inner.post("/items/{name}", status_code=201, response_model=Item, response_class=JSONResponse)
    async def item(name: str, number: Annotated[int, Body()]) -> dict[str, Any]:
        return {"number": number, "name": name}

    @outer.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncGenerator[Item]:
        yield Item(number=1)

    @versioned.get("/versioned")
    async def version() -> str:
        return "v1"

    @limited.post("/form")
    async def form(a: Annotated[str, Form()]) -> str:
        return a

    @frontend.get("/beside")
    async def beside() -> str:
        return "beside"

    @sockets.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("seen")
        await websocket.close()

    inner.routes[0].kept = " kept"  # type: ignore[attr-defined]
    outer.include_router(inner, prefix="/inner", responses={409: {"description": "taken"}})
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.include_router(outer, dependencies=[Depends(marks)], tags=["outer"])
    app.include_router(sockets)
    app.include_router(frontend)
    around.include_router(limited)
    app.include_router(around)
    app.include_router(versioned)
    app.dependency_overrides[number] = lambda: 2
    return app


def told(app: FastAPI) -> list[Any]:
    """Return everything that a client can see."""
    app.openapi_schema = None
    client = TestClient(app)
    answers = [
        client.get("/outer/inner/text"),
        client.post("/outer/inner/items/x", json=3),
        client.post("/outer/inner/items/x", json="no number"),
        client.get("/outer/inner/items/x"),
        client.get("/outer/events"),
        client.get("/v1/versioned"),
        client.post("/form", data={"a": "1", "b": "2"}),
        client.get("/beside"),
        client.get("/files/test_routes.py"),
        client.get("/none"),
    ]
    with client.websocket_connect("/socket") as websocket:
        seen = websocket.receive_text()
    found = [(each.status_code, each.text, sorted(each.headers.items())) for each in answers]
    return [found, seen, app.openapi(), app.url_path_for("item", name="x")]


def test_they_answer_as_before_and_have_the_same_description() -> None:
    app = app_with_routers()
    before = told(app)
    app.router.routes[:] = [each for route in app.router.routes for each in _direct(route)]
    assert {"/outer/inner/text", "/outer/inner/items/{name}", "/outer/events"} <= {
        getattr(route, "path", "") for route in app.router.routes
    }
    assert told(app) == before
    assert before[0][0][:2] == (200, "2 kept")
    assert before[0][-2][0] == 200
    assert before[0][-4][0] == 400
    assert {("x-kind", "marking"), ("x-depends", "yes")} <= set(before[0][0][2])
