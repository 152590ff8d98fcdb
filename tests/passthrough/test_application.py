"""How the app is served."""

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Request
from template import ROOT

from passthrough import UVICORN

from ..baking import PROJECT

router = APIRouter()


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


def test_nobody_can_name_another_address_of_the_client(alice: httpx.Client) -> None:
    sent = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    assert alice.get("/client", headers=sent).json() == ["127.0.0.1", "http"]


def test_every_way_to_start_the_app_has_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    in_environment = {f"UVICORN_{name}".upper(): str(value) for name, value in UVICORN.items()}
    for name, value in in_environment.items():
        monkeypatch.setenv(name, value)
    main = uvicorn.main.make_context("uvicorn", ["app.main:app"])
    assert {name: main.params[name] for name in UVICORN} == UVICORN
    ways = {"deployment.py": "**UVICORN", "local_flyte/__main__.py": '{f"UVICORN_{name}".upper():'}
    for file, use in ways.items():
        assert use in (ROOT / PROJECT / file).read_text("utf-8")
