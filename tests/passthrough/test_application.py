"""Tests of the app's start, and of the server."""

import asyncio
import logging
import pickle

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Request
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
def test_pickling_app_without_import_name_fails() -> None:
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
@pytest.mark.parametrize(
    ("endpoint", "printed", "has_traceback"),
    [
        ("http://127.0.0.1:1", "cannot start: the connection to Flyte would be plaintext", False),
        ("https://[", "ValueError: Invalid IPv6 URL", True),  # an error of the SDK
    ],
)
async def test_app_startup_fails_if_flyte_endpoint_is_unusable(
    *,
    endpoint: str,
    printed: str,
    has_traceback: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "propagate", True)
    app = build_app(flyte_endpoint=endpoint, flyte_plaintext=endpoint.startswith("http:"))
    config = uvicorn.Config(app, log_config=None, **UVICORN)
    config.load()
    lifespan = config.lifespan_class(config)
    await lifespan.startup()
    assert lifespan.should_exit
    assert printed in caplog.text
    assert ("Traceback" in caplog.text) is has_traceback
