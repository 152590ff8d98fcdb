"""How the app starts and is served, and what it refuses to start with."""

import asyncio
import pickle

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Request
from starlette.types import Message
from template import ROOT

from passthrough import UVICORN, Settings, connect, validate_env
from passthrough.calls.sdk import StartError

from ..baking import PROJECT
from .support import build_app
from .test_settings import OwnSettings, load_settings

router = APIRouter()


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


@router.get("/own")
async def own(project: str = "") -> str:
    return project


def test_openapi_lists_project_and_domain_parameters_once(alice: httpx.Client) -> None:
    paths = alice.get("/openapi.json").json()["paths"]
    for path in ("/own", "/client"):
        names = [parameter["name"] for parameter in paths[path]["get"]["parameters"]]
        assert names == ["project", "domain"], path
    assert "parameters" not in paths["/health"]["get"]


@pytest.mark.usefixtures("local_flyte")
def test_app_without_import_name_cannot_be_pickled() -> None:
    app = build_app()
    with pytest.raises(pickle.PicklingError, match=r"give App.import_name="):
        pickle.dumps(app)


def test_validate_env_refuses_misspelt_settings() -> None:
    assert "env_vars=validate_env(" in (ROOT / PROJECT / "deployment.py").read_text("utf-8")
    for name, meant in {"TRUSTED_ORIGIN": "TRUSTED_ORIGINS", "COLORS": "COLOURS"}.items():
        with pytest.raises(StartError, match=f"{name} is not .* did you mean {meant}"):
            validate_env(OwnSettings, {name: "5"})
    names = "DO_NOT_TRACK", "FLYTE_INTERNAL_EXECUTION_ID", "PATH", "_U_ORG"
    others = dict.fromkeys(names, "1")
    assert validate_env(Settings, others) == others


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "neither FLYTE_ENDPOINT nor _U_EP_OVERRIDE, which Flyte injects, is set"),
        ({"FLYTE_ENDPOINT": "http://flyte.example"}, "would be plaintext .FLYTE_ENDPOINT"),
        ({"_U_EP_OVERRIDE": "a.example:1", "_U_INSECURE": "1"}, "plaintext .*_U_INSECURE is set"),
    ],
)
def test_plaintext_connection_is_refused(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(StartError, match=problem) as refused:
        asyncio.run(connect(load_settings(**variables)))
    assert "deployment.py" in str(refused.value)  # which says what Union and others need


@pytest.mark.usefixtures("_safe_sdk")
async def test_start_error_is_reported_in_lifespan_message() -> None:
    """The server prints this message without a traceback."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    app = build_app(flyte_endpoint="http://127.0.0.1:1", flyte_plaintext=True)
    with pytest.raises(StartError):
        await app({"type": "lifespan", "app": app}, receive, send)
    ((kind, message),) = (message.values() for message in sent)
    assert kind == "lifespan.startup.failed"
    assert message.startswith("cannot start: the connection to Flyte would be plaintext")


@pytest.mark.usefixtures("_safe_sdk")
async def test_app_that_cannot_connect_does_not_start() -> None:
    config = uvicorn.Config(build_app(flyte_endpoint="https://["), log_config=None, **UVICORN)
    config.load()
    lifespan = config.lifespan_class(config)
    await lifespan.startup()
    assert lifespan.should_exit
