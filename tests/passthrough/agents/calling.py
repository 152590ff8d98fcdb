"""An app with tools for agents, and agents that call them."""

import json
import pkgutil
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Annotated, Any

from fastapi import APIRouter, Form, Header, Request, Response
from fastapi.responses import StreamingResponse
from flyte import remote
from pydantic import BaseModel

import app.routers as app_routers
from passthrough.agents import serve_agents
from passthrough.application import App

from ..support import build_app

router = APIRouter(tags=["own"])
Agent = Callable[..., tuple[list[str], bool]]
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Thing(BaseModel):
    text: str = ""
    more: "list[Thing]" = []


@router.get("/echo/{text}")
async def echo(text: str, request: Request) -> list[str]:
    return [text, str(request.query_params)]


@router.post("/{anything}")
async def catch_all(anything: str) -> str:
    return anything


@router.put("/in/{project}")
async def put(project: str, thing: Thing, request: Request, *, loud: bool = False) -> list[Any]:
    """Return what has arrived."""
    return [project, request.query_params.get("project"), loud, thing]


@router.get("/headers/all")
async def see_headers(
    request: Request,
    authorization: Annotated[str, Header()],
    x_api_key: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    seen = {name: value for name, value in request.headers.items() if name != "authorization"}
    return {**seen, **request.scope["state"]}


@router.get("/projects-in-thread")
def list_projects_in_thread() -> list[str | None]:
    return [project.pb2.name for project in remote.Project.listall()]


@router.get("/half")
async def break_off() -> Response:
    async def half() -> AsyncIterator[str]:
        yield "half"
        raise ValueError("no other half")

    return StreamingResponse(half(), media_type="text/plain")


@router.post("/form")
async def form(text: Annotated[str, Form()]) -> str:
    return text


def app_with_agents(
    only: set[str] | None = None,
    issuer: str | None = None,
    scopes: tuple[str, ...] = (),
    **changed: Any,
) -> App:
    app = build_app(**changed)
    for module in pkgutil.iter_modules(app_routers.__path__):
        of_the_app = import_module(f"app.routers.{module.name}").router
        app.include_router(of_the_app)
    app.include_router(router)
    serve_agents(app, only, issuer=issuer, scopes=scopes)
    return app


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def calling(client: Any) -> Agent:
    """Return a function that calls a tool: texts of the result, and whether it is an error."""

    def call(tool: str, /, **arguments: Any) -> tuple[list[str], bool]:
        sent = message("tools/call", name=tool, arguments=arguments)
        result = client.post("/mcp", json=sent, headers=ACCEPT).json()["result"]
        return [content["text"] for content in result["content"]], result["isError"]

    return call


def answer(result: tuple[list[str], bool], *, is_error: bool = False) -> Any:
    """Return the JSON of a result that is all."""
    [text], failed = result
    assert failed is is_error, text
    return json.loads(text)
