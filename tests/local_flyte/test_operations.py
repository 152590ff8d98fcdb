"""Example requests for the guarantee tests: checks, names in paths, and hints."""

from typing import Any

import httpx
import pytest
from fastapi import Cookie, FastAPI, File, Form, Header, UploadFile
from pydantic import BaseModel, Field

with pytest.MonkeyPatch.context() as patch:  # the app of the template has no default values
    for name in ("FLYTE_PROJECT", "FLYTE_DOMAIN"):
        patch.setenv(name, "any")
    patch.setenv("CREDENTIAL_HEADERS", "X-Key")
    from local_flyte import hints
    from local_flyte.hints import hint
    from local_flyte.operations import Endpoints, Operation, Target, check_examples

POST = ("POST", "/orders")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"header": {}}, "unknown key 'header'; did you mean 'headers'?"),
        ({"quux": {}}, "unknown key 'quux': use "),
        ({"headers": {"authorization": "x"}}, "omit 'authorization'"),
        ({"headers": {"x-key": "x"}}, "omit 'x-key'"),
        ({"cookies": {"flyte_at": "x"}}, "omit 'flyte_at'"),
        ({"run": "paused"}, "'run' must be one of"),
        ({"status": 404}, "use 'untested' with the reason"),
    ],
)
def test_invalid_example_is_refused(example: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="EXAMPLES") as refused:
        check_examples({POST: example})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("path", "example", "filled"),
    [
        ("/runs/{name}/io", {}, "/runs/r/io"),
        ("/tasks/{name}/runs", {}, "/tasks/t/runs"),
        ("/runs/{name}/actions/{action}/abort", {}, "/runs/r/actions/a/abort"),
        ("/runs/{name}/conditions/{action}", {"run": "running"}, "/runs/w/conditions/c"),
        ("/by-task/{task}/{run}", {}, "/by-task/t/r"),
        ("/sums/{to}", {"path": {"to": 5}}, "/sums/5"),
        ("/sums/{to}", {"path": "/sums/6?x=1"}, "/sums/6?x=1"),
    ],
)
def test_path_parameter_gets_object_of_its_kind(
    path: str, example: dict[str, Any], filled: str
) -> None:
    targets = {"ended": Target("r", "a", "t"), "running": Target("w", "c", "u")}
    operation = ("GET", path)
    assert Endpoints({operation: example}, targets).path(operation) == filled


class Order(BaseModel):
    item: str = Field(examples=["tea"])
    amount: int
    size: str = "small"


app = FastAPI()


@app.post("/orders/{order}")
async def change(
    order: int, full: bool, x_ticket: str = Header(), theme: str = Cookie(examples=["dark"])
) -> None:
    pass


@app.post("/orders")
async def create(order: Order) -> None:
    pass


@app.post("/form")
async def form(document: UploadFile, title: str = Form(examples=["A"])) -> None:
    pass


@app.post("/file")
async def file(document: bytes = File()) -> None:
    pass


@pytest.mark.parametrize(
    ("path", "example"),
    [
        (
            "/orders/{order}",
            {
                "path": {"order": 1},
                "params": {"full": True},
                "headers": {"x-ticket": "…"},
                "cookies": {"theme": "dark"},
            },
        ),
        ("/orders", {"json": {"item": "tea", "amount": 1}}),
        ("/form", {"data": {"title": "A"}, "files": {"document": ("document.txt", b"content")}}),
        ("/file", {"files": {"document": ("document.txt", b"content")}}),
    ],
)
async def test_hint_contains_each_missing_value(
    path: str, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values are the examples and defaults of the OpenAPI document."""
    operation: Operation = ("POST", path)
    monkeypatch.setattr(hints, "DOCUMENTED", {operation: app.openapi()["paths"][path]["post"]})
    monkeypatch.setattr(hints, "app", app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        invalid = (await client.post(path.format(order="none"))).json()["detail"]
    errors = [{"location": one["loc"], "detail": one["msg"]} for one in invalid]
    response = httpx.Response(422, json={"errors": errors})
    text = hint(operation, {}, 422, response, "endpoint")
    assert text.startswith(f"POST {path} responded with 422 (")
    assert text.endswith(
        f"so nothing was tested. Add an example to {hints.WHERE}: { ({operation: example}) }"
    )


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "{('POST', '/orders/{order}'): {'path': {'order': '<order that exists>'}}}"),
        (
            409,
            "needs a run that has not ended, use {('POST', '/orders/{order}'): {'run': 'running'}}",
        ),
        (
            500,
            "say why in EXAMPLES in tests/test_guarantees.py: {('POST', '/orders/{order}'): {'unt",
        ),
    ],
)
def test_hint_depends_on_status(status: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = ("POST", "/orders/{order}")
    described = app.openapi()["paths"][operation[1]]["post"]
    monkeypatch.setattr(hints, "DOCUMENTED", {operation: described})
    response = httpx.Response(status, json={"detail": "because"})
    message = hint(operation, {}, status, response, "tool")
    assert message.startswith(
        f"The tool of POST /orders/{{order}} responded with {status} (because)"
    )
    assert text in message
