"""Calling Flyte as the application that owns an API key."""

from base64 import b64encode
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from flyte import remote
from flyteidl2.auth import auth_service_pb2 as pb
from starlette.types import Receive, Scope, Send

from local_flyte import LocalFlyte, ReceivedCall, identity
from local_flyte.testing import client_of, serving
from passthrough.calls.own_identity import EARLY, AppIdentity

from .support import TASKS, build_app

router = APIRouter()
robot = AppIdentity("ROBOT_API_KEY")


@router.get("/robot")
async def act() -> dict[str, str]:
    async with robot.acting():
        own = (await remote.User.get.aio()).subject()
    return {"own": own, "callers": (await remote.User.get.aio()).subject()}


@router.post("/once/{name}")
async def once(name: str) -> str:
    task = remote.Task.get(f"{TASKS}.greet", auto_version="latest")
    return (await robot.run_once(name, task, name="Ada")).name


@pytest.fixture(autouse=True)
def _key(local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch) -> None:
    local_flyte.add_person("robot")
    monkeypatch.setenv("ROBOT_API_KEY", local_flyte.api_key("robot"))
    monkeypatch.setattr(robot, "_ends", 0.0)


def key(*parts: object) -> str:
    return b64encode(":".join(map(str, parts)).encode()).decode()


def test_inside_the_block_the_app_acts_as_itself_and_outside_as_its_caller(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    for client, name in ((alice, "alice"), (bob, "bob"), (alice, "alice")):
        subjects = {"own": "robot-subject", "callers": f"{name}-subject"}
        assert client.get("/robot").json() == subjects


def test_the_key_is_exchanged_once_for_as_long_as_the_token_lasts(
    alice: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    def exchanges() -> int:
        return [call.service for call in received()].count("oauth2")

    for _ in range(3):
        assert alice.get("/robot").is_success
    assert exchanges() == 1
    robot._ends -= 3600 - EARLY  # as if almost an hour had passed
    assert alice.get("/robot").is_success
    assert exchanges() == 2
    asked = [call for call in received() if call.service == "flyteidl2.auth.AuthMetadataService"]
    assert len(asked) == 4
    assert not any("authorization" in call.headers for call in asked)


def test_a_key_that_is_invalid_or_for_another_flyte_is_not_sent(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = local_flyte.url.removeprefix("https://")
    others = ("flyte.example.com", f"{host}.example.com", f"x@{host}", f"{host}0", "127.0.0.1")
    for wrong, said in (
        ("", "holds no API key"),
        ("no key", "holds no API key"),
        (key("host", "robot", "secret"), "holds no API key"),
        *((key(other, "robot", "secret", "local"), "is for another Flyte") for other in others),
    ):
        caplog.clear()
        monkeypatch.setenv("ROBOT_API_KEY", wrong)
        assert alice.get("/robot").status_code == 502
        assert f"ROBOT_API_KEY {said}" in caplog.text
        assert "secret" not in caplog.text
        assert not wrong or wrong not in caplog.text
    assert received() == []


def test_no_key_is_sent_to_a_plaintext_flyte(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(
        router, flyte_endpoint="http://127.0.0.1:1", flyte_plaintext=True, allow_anonymous=True
    )
    monkeypatch.setenv("ROBOT_API_KEY", key("127.0.0.1:1", "robot", "secret", "local"))
    with serving(app) as url, client_of(url, "alice") as alice:
        assert alice.get("/robot").status_code == 502


def test_run_once_starts_a_run_only_once(
    alice: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    assert [alice.post("/once/d1").json() for _ in range(2)] == ["d1", "d1"]
    (created,) = [call for call in received() if call.method == "CreateRun"]
    assert created.headers["authorization"].startswith("Bearer robot-")


@pytest.mark.parametrize(
    ("address", "status", "answer", "said"),
    [
        (None, 0, None, "'' is not an https:// address"),
        (
            "http://127.0.0.1:1/token",
            0,
            None,
            "'http://127.0.0.1:1/token' is not an https:// address",
        ),
        ("https://127.0.0.1:99999/token", 0, None, "'127.0.0.1:99999' cannot be called"),
        ("", 401, {"access_token": "of-nobody"}, "has refused the API key: 401"),
        ("", 200, "of-nobody", "is invalid"),
        ("", 200, {"token": "of-nobody"}, "is invalid"),
        ("", 200, {"access_token": ""}, "is invalid"),
        ("", 200, {"access_token": "of-nobody\n"}, "is invalid"),
        ("", 200, {"access_token": "of-nobody", "expires_in": "soon"}, "is invalid"),
    ],
)
def test_a_key_is_sent_only_over_tls_and_an_odd_answer_is_a_fault_of_flyte(
    *,
    alice: httpx.Client,
    address: str | None,
    status: int,
    answer: Any,
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With None as the address, nobody has told Flyte one; with "", it is the local Flyte's."""
    forms: list[bytes] = []

    def metadata(**usual: Any) -> pb.GetOAuth2MetadataResponse:
        if address is None:
            raise ConnectError(Code.UNIMPLEMENTED, "")
        return pb.GetOAuth2MetadataResponse(
            **usual | ({"token_endpoint": address} if address else {})
        )

    def config(**_: Any) -> pb.GetPublicClientConfigResponse:
        return pb.GetPublicClientConfigResponse(scopes=["all", "offline"], audience="flyte")

    async def token(_: Any, scope: Scope, receive: Receive, send: Send) -> None:
        forms.append((await receive())["body"])
        await JSONResponse(answer, status)(scope, receive, send)

    messages = {"GetOAuth2MetadataResponse": metadata, "GetPublicClientConfigResponse": config}
    monkeypatch.setattr(identity, "auth_service_pb2", SimpleNamespace(**messages))
    monkeypatch.setattr(identity.Tokens, "__call__", token)
    assert alice.get("/robot").status_code == 502
    assert said in caplog.text
    assert "of-nobody" not in caplog.text
    form = b"grant_type=client_credentials&scope=all+offline&audience=flyte"
    assert forms == ([form] if status else [])
