"""Calling Flyte as the application that owns an API key."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import trustme
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from flyte import remote
from starlette.types import Receive, Scope, Send

from local_flyte import LocalFlyte, ReceivedCall
from passthrough.calls.own_identity import EARLY, OwnIdentity

from .support import TASKS, bearer, build_app, client_of, serving

router = APIRouter()
robot = OwnIdentity("ROBOT_API_KEY")


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


def key(*parts: object) -> str:
    return b64encode(":".join(map(str, parts)).encode()).decode()


def test_inside_the_block_the_app_acts_as_itself_and_outside_as_its_caller(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    for client, subject in (
        (alice, "alice-subject"),
        (bob, "bob-subject"),
        (alice, "alice-subject"),
    ):
        assert client.get("/robot").json() == {"own": "robot-subject", "callers": subject}


def test_the_key_is_exchanged_once_for_as_long_as_the_token_lasts(
    alice: httpx.Client,
    received: Callable[[], list[ReceivedCall]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exchanges() -> int:
        return [call.service for call in received()].count("oauth2")

    for _ in range(3):
        assert alice.get("/robot").is_success
    assert exchanges() == 1
    robot._ends -= 3600 - EARLY  # as if almost an hour had passed
    assert alice.get("/robot").is_success
    assert exchanges() == 2
    assert not any(
        call.headers.get("authorization") == bearer("alice")
        for call in received()
        if call.service in {"oauth2", "flyteidl2.auth.AuthMetadataService"}
    )


def test_a_key_that_flyte_refuses_is_not_revealed(
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = local_flyte.url.removeprefix("https://")
    monkeypatch.setenv("ROBOT_API_KEY", key(host, "robot", "a-secret-of-yesterday", "local"))
    answer = alice.get("/robot")
    assert answer.status_code == 502
    assert "has refused the API key: 401" in caplog.text
    assert "a-secret-of-yesterday" not in answer.text + caplog.text


@pytest.mark.parametrize(
    "host",
    ["flyte.example.com", "{host}.example.com", "x{host}", "x@{host}", "{host}0", "127.0.0.1"],
)
def test_a_key_for_another_flyte_is_not_sent(
    *,
    alice: httpx.Client,
    local_flyte: LocalFlyte,
    received: Callable[[], list[ReceivedCall]],
    host: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = host.format(host=local_flyte.url.removeprefix("https://"))
    monkeypatch.setenv("ROBOT_API_KEY", key(host, "robot", "secret", "local"))
    assert alice.get("/robot").status_code == 502
    assert "another Flyte" in caplog.text
    assert received() == []


@pytest.mark.parametrize("wrong", ["", "no key", key("host", "client", "secret")])
def test_an_invalid_key_is_refused_and_not_quoted(
    alice: httpx.Client,
    wrong: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROBOT_API_KEY", wrong)
    assert alice.get("/robot").status_code == 502
    assert "ROBOT_API_KEY holds no API key" in caplog.text
    assert not wrong or wrong not in caplog.text


def test_run_once_starts_a_run_only_once(
    alice: httpx.Client, received: Callable[[], list[ReceivedCall]]
) -> None:
    assert [alice.post("/once/d1").json() for _ in range(2)] == ["d1", "d1"]
    (created,) = [call for call in received() if call.method == "CreateRun"]
    assert created.headers["authorization"].startswith("Bearer robot-")


def test_no_key_is_sent_to_a_plaintext_flyte(
    local_flyte: LocalFlyte, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(
        router, flyte_endpoint="http://127.0.0.1:1", flyte_plaintext=True, allow_anonymous=True
    )
    monkeypatch.setenv("ROBOT_API_KEY", key("127.0.0.1:1", "robot", "secret", "local"))
    with serving(app) as url, client_of(url, "alice") as alice:
        assert alice.get("/robot").status_code == 502


class Issuer:
    """A Flyte that issues tokens, with these answers by the last part of the path."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.forms: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, method = (await receive())["body"], scope["path"].rpartition("/")[2]
        if method == "token":
            self.forms.append(body)
        await JSONResponse(self.answers[method])(scope, receive, send)


@pytest.fixture(scope="module")
def issuer(
    local_flyte: LocalFlyte, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Issuer, str]]:
    """The issuer, and its address."""
    folder, authority, issuer = tmp_path_factory.mktemp("issuer"), trustme.CA(), Issuer()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        folder / "server"
    )
    authority.cert_pem.write_to_path(folder / "ca")
    with (
        serving(issuer, ssl_certfile=str(folder / "server")) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", str(folder / "ca"))
        yield issuer, url


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GetOAuth2Metadata", "a page"),
        ("GetOAuth2Metadata", {}),
        ("GetOAuth2Metadata", {"tokenEndpoint": "http://127.0.0.1:1/token"}),
        ("GetOAuth2Metadata", {"tokenEndpoint": "https://127.0.0.1:99999/token"}),
        ("GetPublicClientConfig", {"scopes": "all"}),
        ("token", "a-token-that-nobody-may-see"),
        ("token", None),
        ("token", {"token": "a-token-that-nobody-may-see"}),
        ("token", {"access_token": ""}),
        ("token", {"access_token": "a-token-that-nobody-may-see\n"}),
        ("token", {"access_token": "a-token-that-nobody-may-see", "expires_in": "soon"}),
    ],
)
def test_an_odd_answer_on_the_way_to_a_token_is_a_fault_of_flyte(
    issuer: tuple[Issuer, str],
    method: str,
    answer: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flyte, url = issuer
    flyte.answers = {
        "GetOAuth2Metadata": {"tokenEndpoint": f"{url}/token"},
        "GetPublicClientConfig": {"scopes": ["all", "offline"], "audience": "flyte"},
        method: answer,
    }
    monkeypatch.setenv("ROBOT_API_KEY", key(url.removeprefix("https://"), "robot", "it", "local"))
    with serving(build_app(router, flyte_endpoint=url)) as app, client_of(app, "alice") as alice:
        assert alice.get("/robot").status_code == 502
    assert "INTERNAL" in caplog.text
    assert "nobody-may-see" not in caplog.text
    if method == "token":
        scope = "grant_type=client_credentials&scope=all+offline&audience=flyte"
        assert flyte.forms[-1].decode() == scope
