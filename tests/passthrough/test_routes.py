"""Routes of included routers, which become routes of the app itself when it starts."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Form, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from passthrough.application import _direct


class Marking(APIRoute):
    """An owner's own kind of route."""

    def __init__(self, path: str, *given: Any, **options: Any) -> None:
        super().__init__(f"/v1{path}", *given, **options)

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def marked(request: Request) -> Response:
            response: Response = await handle(request)
            response.headers["X-Kind"] = "marking"
            return response

        return marked


class Gate(APIRouter):
    """An owner's own kind of router, which lets nobody in."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("closed", 403)(scope, receive, send)


class Item(BaseModel):
    number: int


def marks(response: Response) -> None:
    response.headers["X-Depends"] = "yes"


def number() -> int:
    return 1


def app_with_routers() -> FastAPI:
    inner = APIRouter(route_class=Marking, tags=["inner"], default_response_class=PlainTextResponse)
    outer = APIRouter(prefix="/outer")
    frontend, around, gate = APIRouter(), APIRouter(), Gate()
    limited, short = APIRouter(form_limits={"max_fields": 1}), APIRouter(max_body_size=9)
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

    @gate.get("/gated")
    async def gated() -> str:
        return "inside"

    @limited.post("/form")
    async def form(a: Annotated[str, Form()]) -> str:
        return a

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(await Request(scope, receive).body())(scope, receive, send)

    short.mount("/mounted", mounted)
    vars(inner.routes[0])["kept"] = " kept"
    outer.include_router(inner, prefix="/inner", responses={409: {"description": "taken"}})
    around.include_router(limited)
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.include_router(outer, dependencies=[Depends(marks)], tags=["outer"])
    for router in (short, frontend, around, gate):
        app.include_router(router)
    app.dependency_overrides[number] = lambda: 2
    return app


def told(app: FastAPI) -> list[Any]:
    """Return everything that a client can see."""
    app.openapi_schema = None
    client = TestClient(app)
    answers = [
        client.get("/outer/inner/v1/text"),
        client.post("/outer/inner/v1/items/x", json=3),
        client.post("/outer/inner/v1/items/x", json="no number"),
        client.get("/outer/inner/v1/items/x"),
        client.get("/outer/events"),
        client.post("/form", data={"a": "1", "b": "2"}),
        client.post("/mounted", content=bytes(10)),
        client.get("/gated"),
        client.get("/files/test_routes.py"),
        client.get("/none"),
    ]
    found = [(each.status_code, each.text, sorted(each.headers.items())) for each in answers]
    return [found, app.openapi(), app.url_path_for("item", name="x")]


def test_they_answer_as_before_and_have_the_same_description() -> None:
    app = app_with_routers()
    before = told(app)
    app.router.routes[:] = [each for route in app.router.routes for each in _direct(route)]
    own = {getattr(route, "path", "") for route in app.router.routes}
    assert own >= {"/outer/inner/v1/text", "/outer/inner/v1/items/{name}", "/outer/events"}
    assert told(app) == before
    assert [each[0] for each in before[0]] == [200, 201, 422, 405, 200, 400, 413, 403, 200, 404]
    assert before[0][0][1] == "2 kept"
    assert {("x-kind", "marking"), ("x-depends", "yes")} <= set(before[0][0][2])
