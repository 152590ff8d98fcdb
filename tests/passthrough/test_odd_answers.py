"""Answers of Flyte that are valid messages, but not what its service returns."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import flyte
import httpx
import pytest
from fastapi import APIRouter
from flyte import remote
from flyteidl2.core.literals_pb2 import Literal, Primitive, Scalar
from flyteidl2.dataproxy.dataproxy_service_pb2 import GetActionDataResponse
from flyteidl2.task.common_pb2 import NamedLiteral
from flyteidl2.workflow import run_definition_pb2
from flyteidl2.workflow.run_service_pb2 import CreateRunResponse, ListRunsResponse
from google.protobuf.message import Message

from local_flyte import LocalFlyte
from local_flyte.testing import client_of, serving

from .faulty import FaultyWay
from .support import build_app

router = APIRouter()
Answers = Callable[[str, Message], None]


@router.post("/greet")
async def greet() -> str:
    task = remote.Task.get("tests.greet", auto_version="latest")
    return (await flyte.run.aio(task, name="Ada")).name


@router.get("/runs")
async def runs() -> list[str]:
    return [run.name async for run in remote.Run.listall.aio()]


@router.get("/runs/{name}/io")
async def inputs_and_outputs(name: str) -> Any:
    run = await remote.Run.get.aio(name)
    inputs, outputs = await run.inputs.aio(), await run.outputs.aio()
    return {"inputs": repr(inputs), "outputs": outputs.named_outputs, "text": str(outputs)}


@router.post("/runs/{name}/rerun")
async def rerun(name: str) -> str:
    return (await flyte.rerun.aio(name, name="Bob")).name


@pytest.fixture(scope="module")
def way(local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyWay]:
    port = int(local_flyte.url.rpartition(":")[2])
    way = FaultyWay(port, local_flyte.ca_file, tmp_path_factory.mktemp("way"))
    yield way
    way.stop()


@pytest.fixture(scope="module")
def caller(way: FaultyWay) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(way.trusted))
        app = build_app(router, flyte_endpoint=f"https://127.0.0.1:{way.port}")
        with serving(app) as url, client_of(url, "alice") as client:
            yield client


@pytest.fixture
def answer(way: FaultyWay) -> Iterator[Answers]:
    """A function that makes Flyte answer one method with a message."""

    def set_answer(method: str, message: Message) -> None:
        body = message.SerializeToString()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: %d\r\n\r\n"

        async def fault(writer: asyncio.StreamWriter, _: bytes) -> None:
            writer.write(head % len(body) + body)

        way.fault = fault
        way.meets = lambda request: f"/{method} ".encode() in request

    yield set_answer
    way.fault = None


def test_a_run_without_an_action_is_a_fault_of_flyte(caller: httpx.Client, answer: Answers) -> None:
    answer("CreateRun", CreateRunResponse(run=run_definition_pb2.Run()))
    assert caller.post("/greet").status_code == 502
    answer("ListRuns", ListRunsResponse(runs=[run_definition_pb2.Run()]))
    assert caller.get("/runs").status_code == 502


def data(count: int, literal: Literal) -> GetActionDataResponse:
    """Return data of a run with this many inputs and one output, ``o0``."""
    made = GetActionDataResponse()
    made.inputs.literals.extend(NamedLiteral(name=str(n), value=literal) for n in range(count))
    made.outputs.literals.add(name="o0", value=literal)
    return made


def test_a_run_with_too_many_inputs_is_too_large(
    caller: httpx.Client, answer: Answers, greeting: str
) -> None:
    answer("GetActionData", data(501, Literal(scalar=Scalar(primitive=Primitive(integer=1)))))
    for answered in (
        caller.get(f"/runs/{greeting}/io"),
        caller.post(f"/runs/{greeting}/rerun"),
    ):
        assert (answered.status_code, answered.json()["detail"]) == (
            413,
            "the run has more than 500 inputs or outputs",
        )


@pytest.mark.parametrize("literal", [Literal(), Literal(scalar=Scalar())])
def test_odd_values_have_a_text(
    caller: httpx.Client, answer: Answers, greeting: str, literal: Literal
) -> None:
    answer("GetActionData", data(1, literal))
    shown = caller.get(f"/runs/{greeting}/io").json()
    assert shown["inputs"] == "{'0': {'kind': 'empty'}}"
    assert "empty" in shown["text"]
    assert shown["outputs"] == {"o0": {"kind": "empty"}}
